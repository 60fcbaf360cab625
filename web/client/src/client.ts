import { Backoff } from "./backoff.js";
import { Emitter } from "./emitter.js";
import type { Claim, DeltaFrame, ErrorFrame, OutcomeFrame, ServerFrame, SnapshotFrame, StandingsFrame, Watch } from "./frames.js";
import { Progress, watchKey } from "./progress.js";
import { liveURL, machine, open, socketClass, type Environment, type Socket, type SocketClass } from "./socket.js";
import { HuntView } from "./view.js";

/**
 * How far the client is:
 * - `connecting`: never been live yet
 * - `catching-up`: connected, and not yet told all that it missed
 * - `live`: what it was told is what there is
 * - `reconnecting`: lost its connection, waits or tries
 * - `stopped`: was told to, or never started
 */
export type State = "stopped" | "connecting" | "catching-up" | "live" | "reconnecting";

/** Reports that a claim's outcome can't be known from here: it may have been taken. Asking again is safe. */
export class Disconnected extends Error {
  override readonly name = "Disconnected";

  constructor() {
    super("The connection was lost before the answer came.");
  }
}

/** A delta that does not follow on what is known: a bug, here or in the server. The client starts anew. */
export interface Gap {
  hunt: string;
  region: string;
  /** What the delta follows on. */
  from: number;
  /** Up to where the region was known; undefined if it was not. */
  known: number | undefined;
}

/** Why a connection ended, or was not made. */
export interface Lost {
  /** The close code (docs/live.md has the server's); 1006 if there was none, as after a refused handshake; 0 if the client gave it up itself. */
  code: number;
  reason: string;
  /** Until the next try. */
  waitMs: number;
}

/** The client's events: every frame by its type, and what becomes of the connection. */
export type Events = { [T in ServerFrame["type"]]: Extract<ServerFrame, { type: T }> } & { state: State; lost: Lost; gap: Gap };

/** All but `url` may be left out. */
export interface Options {
  /** The address of `/v1/live`, such as `wss://play.example/v1/live`; in a browser it may be relative to the page. */
  url: string | URL;
  /** A player's token. Watching needs none, claiming does. */
  token?: string;
  /** The WebSocket class, where there is none global: of `undici` or `ws`. */
  WebSocket?: SocketClass;
  /** Stops the client for good when it aborts. */
  signal?: AbortSignal;
  /** The ceiling of the first wait before a new try; 400. */
  backoffMs?: number;
  /** The ceiling of the longest; 10,000. */
  backoffCapMs?: number;
  /** How long a connection must have been live for waits to begin at the first again; 5,000. */
  steadyMs?: number;
  /** Silence after which the client pings; twice that, and it gives the connection up. 10,000. It pings now and then in any case: a pong tells the time. */
  silentMs?: number;
  /** How long an outcome may take; 8,000. */
  claimMs?: number;
  /** Time and chance, for tests. */
  environment?: Partial<Environment>;
}

const protocol = "cairn.v1.json";
const probeMs = 3_000; // how long a connection may take to answer a probe

/** What is watched of a hunt, and how far that is known. */
interface Watched {
  watch: Watch;
  progress: Progress;
  /** What is to come after a (re)connect before the hunt is up to date: a snapshot, or any word. */
  due: "snapshot" | "word" | undefined;
}

/**
 * A client of `/v1/live`. It stays connected from start to stop: it comes back
 * with jitter when it is cut off, tells the server how far it got, and says by
 * its state whether what it told its listeners is all there is. What it hears
 * twice it tells once. It never repeats a claim by itself: a claim in flight
 * when the connection went is rejected as Disconnected, and asking again is safe.
 */
export class LiveClient extends Emitter<Events> {
  readonly #options: Options;
  readonly #url: string;
  readonly #WebSocket: SocketClass;
  readonly #env: Environment;
  readonly #backoff: Backoff;
  readonly #watched = new Map<string, Watched>();
  readonly #views = new Map<string, HuntView>();
  readonly #claims = new Map<string, { resolve(frame: OutcomeFrame | ErrorFrame): void; reject(why: Error): void; timer: unknown }>();

  #state: State = "stopped";
  #socket: Socket | undefined;
  #token: string | undefined;
  #epoch: string | undefined; // what is known belongs to it
  #welcomed = false; // on this connection
  #refused = false; // something that was said on it
  #liveSince = 0;
  #timer: unknown; // of the next try, or of the watchdog
  #drainTimer: unknown;
  #heard = 0;
  #pinged = 0;
  #claimed = 0;
  #connects = 0;
  #gaps = 0;

  /** Throws if there is no WebSocket, or if the url is none. Connects when started. */
  constructor(options: Options) {
    super();
    this.#options = options;
    this.#url = liveURL(options.url);
    this.#WebSocket = socketClass(options.WebSocket);
    this.#token = options.token;
    this.#env = { ...machine, ...options.environment };
    this.#backoff = new Backoff(options.backoffMs ?? 400, options.backoffCapMs ?? 10_000, this.#env.random);
    options.signal?.addEventListener("abort", () => this.stop(), { once: true });
  }

  get state(): State {
    return this.#state;
  }

  /** How many deltas did not follow on what was known. Anything but 0 is a bug, here or in the server. */
  get gaps(): number {
    return this.#gaps;
  }

  /** How many connections were made and welcomed. */
  get connects(): number {
    return this.#connects;
  }

  /** Connects, and stays so until stopped. It does nothing when started already, or after the signal aborted. */
  start(): void {
    if (this.#state !== "stopped" || this.#options.signal?.aborted) return;
    this.#connect();
    this.#become("connecting");
  }

  /** Disconnects. Watches and views stay as they are, for the next start. */
  stop(): void {
    this.#env.clearTimeout(this.#timer);
    this.#abandon();
    this.#become("stopped");
  }

  /** Changes who the player is. It takes a new connection, since a token goes in the first frame. */
  as(token: string | undefined): void {
    if (token === this.#token) return;
    this.#token = token;
    this.#reconnect({ code: 0, reason: "another player", waitMs: 0 });
  }

  /** Tries again now rather than after the wait: for when the network is back. */
  retry(): void {
    if (this.#state === "stopped" || this.#socket) return;
    this.#env.clearTimeout(this.#timer);
    this.#timer = this.#env.setTimeout(() => this.#connect(), 0);
  }

  /**
   * Makes sure of the connection, for when the page or its network was away: it
   * may be long dead without a word, and the clock wrong. One that is silent now
   * is given up soon.
   */
  probe(): void {
    if (!this.#socket) return this.retry();
    if (!this.#ping()) return; // it is still being made, and guarded
    const heard = this.#heard;
    this.#env.clearTimeout(this.#timer);
    this.#timer = this.#env.setTimeout(() => (this.#heard === heard ? this.#reconnect({ code: 0, reason: "silent", waitMs: 0 }) : this.#guard()), probeMs);
  }

  /**
   * Watches regions of a hunt, at any time, also while disconnected; it replaces
   * what was watched there. Neither regions nor standings ends it. A server
   * takes 64 regions of 16 hunts at most.
   */
  watch(watch: Watch): void {
    const { hunt, regions, standings } = watch;
    const before = this.#watched.get(hunt);
    if (!regions.length && !standings) {
      if (!before) return;
      this.#watched.delete(hunt);
      this.#views.get(hunt)?.restart();
    } else if (!before) {
      this.#watched.set(hunt, { watch, progress: new Progress(), due: "snapshot" });
    } else {
      // The server would let a watch that changes nothing pass.
      if (watchKey(regions, standings) === watchKey(before.watch.regions, before.watch.standings)) return;
      before.watch = watch;
      before.due = "snapshot";
    }
    this.#send({ type: "watch", hunt, regions, standings });
  }

  /**
   * The view of a hunt, which follows the connection from now on; always the same
   * one. It is filled by what `watch` asks for, before or after.
   */
  view(hunt: string): HuntView {
    let view = this.#views.get(hunt);
    if (view) return view;
    this.#views.set(hunt, (view = new HuntView(hunt)));
    const watched = this.#watched.get(hunt);
    if (watched) {
      // What it missed comes again, as a snapshot.
      this.watch({ hunt, regions: [], standings: false });
      this.watch(watched.watch);
    }
    return view;
  }

  /**
   * Sends an attempt, and resolves to its outcome, or to the error about it.
   * Rejects with Disconnected when neither can be known from here: not connected,
   * cut off before the answer, or no answer in time.
   */
  claim(claim: Claim): Promise<OutcomeFrame | ErrorFrame> {
    const id = `c${++this.#claimed}`;
    return new Promise((resolve, reject) => {
      const timer = this.#env.setTimeout(() => this.#settle(id)?.reject(new Disconnected()), this.#options.claimMs ?? 8_000);
      this.#claims.set(id, { resolve, reject, timer });
      if (!this.#welcomed || !this.#send({ type: "claim", id, ...claim })) this.#settle(id)?.reject(new Disconnected());
    });
  }

  #become(state: State): void {
    if (state === this.#state) return;
    this.#state = state;
    if (state === "live") this.#liveSince = this.#env.now();
    this.emit("state", state);
  }

  #send(frame: object): boolean {
    if (this.#socket?.readyState !== open) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #ping(): boolean {
    this.#pinged = this.#env.now();
    return this.#send({ type: "ping" });
  }

  #settle(id: string) {
    const claim = this.#claims.get(id);
    this.#claims.delete(id);
    if (claim) this.#env.clearTimeout(claim.timer);
    return claim;
  }

  #connect(): void {
    const socket = new this.#WebSocket(this.#url, protocol);
    this.#socket = socket;
    this.#heard = this.#env.now();
    this.#guard();
    socket.onopen = () => this.#greet();
    socket.onmessage = (event: { data: unknown }) => this.#hear(event.data);
    socket.onerror = () => {}; // close follows; the package ws throws an error that nobody takes
    socket.onclose = (event: { code?: number; reason?: string }) => {
      if (this.#socket === socket) this.#reconnect({ code: event.code ?? 1006, reason: event.reason ?? "" });
    };
  }

  /**
   * Says who and where this client is and what it watches, all at once. Only the
   * first watch is answered with what was missed, and only if it sees what was
   * seen before.
   */
  #greet(): void {
    const resumed = this.#epoch === undefined ? undefined : [...this.#watched.values()].find(({ watch, progress }) => progress.covers(watch) && progress.seq > 0);
    const past = resumed && { epoch: this.#epoch, seq: resumed.progress.seq };
    this.#send({ type: "hello", ...(this.#token && { token: this.#token }), ...past });
    const others = [...this.#watched.values()].filter((watched) => watched !== resumed);
    for (const watched of resumed ? [resumed, ...others] : others) {
      watched.due = watched === resumed ? "word" : "snapshot";
      const { hunt, regions, standings } = watched.watch;
      this.#send({ type: "watch", hunt, regions, standings });
    }
    this.#ping();
  }

  /** Lets go of the connection; what was in flight on it is unknown. */
  #abandon(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#welcomed = this.#refused = false;
    this.#env.clearTimeout(this.#drainTimer);
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    for (const id of [...this.#claims.keys()]) this.#settle(id)?.reject(new Disconnected());
  }

  /** Ends the connection and makes another: after so long, or when the back-off says. */
  #reconnect(why: { code: number; reason: string; waitMs?: number }): void {
    if (this.#state === "stopped") return;
    // One that is cut as soon as it is live has not proved itself.
    if (this.#state === "live" && this.#env.now() - this.#liveSince >= (this.#options.steadyMs ?? 5_000)) this.#backoff.reset();
    this.#abandon();
    const waitMs = why.waitMs ?? this.#backoff.next();
    this.#env.clearTimeout(this.#timer);
    this.#timer = this.#env.setTimeout(() => this.#connect(), waitMs);
    this.emit("lost", { ...why, waitMs });
    if (this.state !== "connecting" && this.state !== "stopped") this.#become("reconnecting");
  }

  /** Watches over a connection: one that is silent is pinged, one that stays silent is given up. */
  #guard(): void {
    const silentMs = this.#options.silentMs ?? 10_000;
    this.#env.clearTimeout(this.#timer);
    this.#timer = this.#env.setTimeout(() => {
      const silence = this.#env.now() - this.#heard;
      if (silence > 2 * silentMs) return this.#reconnect({ code: 0, reason: "silent" });
      if (silence >= silentMs || this.#env.now() - this.#pinged >= 3 * silentMs) this.#ping();
      this.#guard();
    }, silentMs / 2);
  }

  #hear(text: unknown): void {
    this.#heard = this.#env.now();
    const frame = parse(text);
    if (!frame) return this.#reconnect({ code: 0, reason: "not a server of this protocol" });
    const socket = this.#socket;
    // A type that this client does not know is of a newer server: it has no listeners.
    if (this.#follow(frame)) this.emit<ServerFrame["type"]>(frame.type, frame);
    if (this.#socket === socket) this.#caughtUp();
  }

  /** Keeps what is known before the listeners hear, and says whether they are to hear. */
  #follow(frame: ServerFrame): boolean {
    switch (frame.type) {
      case "welcome":
        this.#welcome(frame.epoch);
        return true;
      case "snapshot":
      case "delta":
      case "standings":
        return this.#fold(frame);
      case "outcome":
        this.#settle(frame.id)?.resolve(frame);
        return true;
      case "error":
        if (frame.id !== undefined) this.#settle(frame.id)?.resolve(frame);
        else this.#refused = true;
        return true;
      case "pong":
        // No word may mean that nothing was missed. A snapshot always comes, but of a hunt that was refused.
        for (const watched of this.#watched.values()) if (watched.due === "word" || this.#refused) watched.due = undefined;
        return true;
      case "drain":
        this.#env.clearTimeout(this.#drainTimer);
        this.#drainTimer = this.#env.setTimeout(() => this.#reconnect({ code: 0, reason: "drain", waitMs: 0 }), this.#env.random() * frame.within_ms);
        return true;
      default:
        return true;
    }
  }

  /** Takes a welcome: the first of a connection, or a later one that says that the gateway began anew. */
  #welcome(epoch: string): void {
    if (!this.#welcomed) this.#connects++;
    this.#welcomed = true;
    if (epoch !== this.#epoch) this.#forget();
    this.#epoch = epoch;
    this.#become("catching-up");
  }

  /** Forgets how far it got, but not what the views show: snapshots are to come. */
  #forget(): void {
    this.#epoch = undefined;
    for (const watched of this.#watched.values()) {
      watched.progress.forget();
      watched.due = "snapshot";
    }
    for (const view of this.#views.values()) view.restart();
  }

  /** Folds what was heard of a hunt, and says whether it is news. */
  #fold(frame: SnapshotFrame | DeltaFrame | StandingsFrame): boolean {
    const watched = this.#watched.get(frame.hunt);
    if (!watched) return false; // it crossed the end of the watch
    const { progress, watch } = watched;
    if (frame.type === "snapshot") {
      progress.snapshot(frame);
      if (progress.covers(watch)) watched.due = undefined;
    } else if (frame.type === "standings") {
      if (!progress.standings(frame.seq)) return false;
    } else {
      const fit = progress.delta(frame);
      if (fit === "gap") this.#gap(frame, progress.regions.get(frame.region));
      else if (fit !== "early" && watched.due === "word") watched.due = undefined;
      if (fit !== "news") return false;
    }
    this.#views.get(frame.hunt)?.apply(frame);
    return true;
  }

  #gap({ hunt, region, from }: DeltaFrame, known: number | undefined): void {
    this.#gaps++;
    this.#forget();
    this.emit("gap", { hunt, region, from, known });
    this.#reconnect({ code: 0, reason: "gap" });
  }

  /** Becomes live once nothing is due. */
  #caughtUp(): void {
    if (this.#state !== "catching-up") return;
    for (const { due } of this.#watched.values()) if (due) return;
    this.#become("live");
  }
}

/** A message as a frame; undefined if it is none. */
function parse(text: unknown): ServerFrame | undefined {
  try {
    const frame = JSON.parse(text as string) as ServerFrame | null;
    return typeof frame?.type === "string" ? frame : undefined;
  } catch {
    return undefined;
  }
}

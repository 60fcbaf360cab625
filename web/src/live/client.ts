import { Backoff } from "./backoff";
import type { Claim, ErrorFrame, OutcomeFrame, ServerFrame, Watch } from "./frames";

/**
 * How far the client is:
 * - `connecting`: never been live yet
 * - `catching-up`: connected, and not yet told all that it missed
 * - `live`: what it was told is what there is
 * - `reconnecting`: lost its connection, waits or tries
 * - `stopped`: was told to, or never started
 */
export type State = "stopped" | "connecting" | "catching-up" | "live" | "reconnecting";

/** Reports that a connection was lost with a claim in flight: its outcome is unknown. */
export class Disconnected extends Error {
  constructor() {
    super("The connection was lost before the answer came.");
  }
}

/** What the client needs of its surroundings; tests give others. */
export interface Environment {
  WebSocket: new (url: string, protocol: string) => Socket;
  setTimeout(call: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  now(): number; // milliseconds, never set back
  random(): number; // 0 ≤ random < 1
}

/** The part of a browser's WebSocket that the client uses. */
export interface Socket {
  readonly readyState: number;
  onopen: ((event: never) => unknown) | null;
  onmessage: ((event: never) => unknown) | null;
  onclose: ((event: never) => unknown) | null;
  send(text: string): void;
  close(): void;
}

export interface Options {
  url: string;
  token?: string;
  environment?: Partial<Environment>;
  backoffMs?: number; // the first wait's ceiling; 400
  backoffCapMs?: number; // the longest wait's; 10,000
  silentMs?: number; // without a frame before the client pings; 10,000. It pings now and then in any case: a pong tells the time
  claimMs?: number; // how long an outcome may take; 8,000
}

type Listeners = { [T in ServerFrame["type"]]: Set<(frame: Extract<ServerFrame, { type: T }>) => void> };

const open = 1; // WebSocket.OPEN
const protocol = "cairn.v1.json";
const probeMs = 3_000; // how long a connection may take to answer a probe

/**
 * A client of /v1/live. It stays connected from start to stop: it comes back
 * with jitter when it is cut off, tells the server how far it got, and says by
 * its state whether what it told its listeners is all there is. It never
 * repeats a claim by itself: a claim in flight when the connection went is
 * rejected as Disconnected, and asking again is safe.
 */
export class LiveClient {
  readonly #options: Options;
  readonly #env: Environment;
  readonly #backoff: Backoff;
  readonly #listeners: Listeners = { welcome: new Set(), snapshot: new Set(), delta: new Set(), standings: new Set(), outcome: new Set(), drain: new Set(), error: new Set(), pong: new Set() };
  readonly #stateListeners = new Set<(state: State) => void>();
  readonly #watches = new Map<string, Watch>();
  readonly #claims = new Map<string, { resolve(frame: OutcomeFrame | ErrorFrame): void; reject(why: Error): void; timer: unknown }>();

  #state: State = "stopped";
  #socket: Socket | undefined;
  #token: string | undefined;
  #epoch: string | undefined; // of the last welcome
  #newest = 0; // the highest seq seen in it
  #seq = 0; // the highest below it: all of that sweep came, since a frame of a later one did
  #behind = new Set<string>(); // hunts that are yet to be brought up to date
  #timer: unknown; // of the next try, or of the watchdog
  #heard = 0;
  #pinged = 0;
  #claimed = 0;

  constructor(options: Options) {
    this.#options = options;
    this.#token = options.token;
    this.#env = {
      WebSocket: globalThis.WebSocket as unknown as Environment["WebSocket"],
      setTimeout: (call, ms) => setTimeout(call, ms),
      clearTimeout: (timer) => clearTimeout(timer as number),
      now: () => performance.now(),
      random: () => Math.random(),
      ...options.environment,
    };
    this.#backoff = new Backoff(options.backoffMs ?? 400, options.backoffCapMs ?? 10_000, this.#env.random);
  }

  get state(): State {
    return this.#state;
  }

  /** Calls a listener for every frame of a type. Returns how to stop. */
  on<T extends ServerFrame["type"]>(type: T, listener: (frame: Extract<ServerFrame, { type: T }>) => void): () => void {
    const set = this.#listeners[type] as Set<typeof listener>;
    set.add(listener);
    return () => set.delete(listener);
  }

  /** Calls a listener whenever the state changes. Returns how to stop. */
  onState(listener: (state: State) => void): () => void {
    this.#stateListeners.add(listener);
    return () => this.#stateListeners.delete(listener);
  }

  start(): void {
    if (this.#state !== "stopped") return;
    this.#become("connecting");
    this.#connect();
  }

  stop(): void {
    this.#become("stopped");
    this.#env.clearTimeout(this.#timer);
    this.#abandon();
  }

  /** Changes who the player is. It takes a new connection, since a token goes in the first frame. */
  as(token: string | undefined): void {
    if (token === this.#token) return;
    this.#token = token;
    this.#reconnect(0);
  }

  /** Tries again now rather than after the wait: for when the network is back. */
  retry(): void {
    if (this.#state === "reconnecting" && !this.#socket) this.#reconnect(0);
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
    this.#timer = this.#env.setTimeout(() => (this.#heard === heard ? this.#reconnect(0) : this.#guard()), probeMs);
  }

  /** Watches regions of a hunt; neither regions nor standings ends it. */
  watch(watch: Watch): void {
    if (watch.regions.length || watch.standings) this.#watches.set(watch.hunt, watch);
    else this.#watches.delete(watch.hunt);
    this.#send({ type: "watch", ...watch });
  }

  /** Sends an attempt. Rejects with Disconnected when its outcome can't be known from here. */
  claim(claim: Claim): Promise<OutcomeFrame | ErrorFrame> {
    const id = `c${++this.#claimed}`;
    return new Promise((resolve, reject) => {
      const timer = this.#env.setTimeout(() => this.#settle(id)?.reject(new Disconnected()), this.#options.claimMs ?? 8_000);
      this.#claims.set(id, { resolve, reject, timer });
      if (this.#state !== "live" || !this.#send({ type: "claim", id, ...claim })) this.#settle(id)?.reject(new Disconnected());
    });
  }

  #become(state: State): void {
    if (state === this.#state) return;
    this.#state = state;
    for (const listener of this.#stateListeners) listener(state);
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
    const socket = new this.#env.WebSocket(this.#options.url, protocol);
    this.#socket = socket;
    this.#heard = this.#env.now();
    this.#guard();
    socket.onopen = () => {
      const past = this.#epoch === undefined ? {} : { epoch: this.#epoch, seq: this.#seq };
      this.#send({ type: "hello", ...(this.#token && { token: this.#token }), ...past });
    };
    socket.onmessage = (event: { data: unknown }) => this.#hear(String(event.data));
    socket.onclose = () => {
      if (this.#socket === socket) this.#reconnect(this.#backoff.next());
    };
  }

  /** Lets go of the connection; what was in flight on it is unknown. */
  #abandon(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    for (const id of [...this.#claims.keys()]) this.#settle(id)?.reject(new Disconnected());
  }

  #reconnect(waitMs: number): void {
    if (this.#state === "stopped") return;
    this.#abandon();
    if (this.#state !== "connecting") this.#become("reconnecting");
    this.#env.clearTimeout(this.#timer);
    this.#timer = this.#env.setTimeout(() => this.#connect(), waitMs);
  }

  /** Watches over a connection: one that is silent is pinged, one that stays silent is given up. */
  #guard(): void {
    const silentMs = this.#options.silentMs ?? 10_000;
    this.#env.clearTimeout(this.#timer);
    this.#timer = this.#env.setTimeout(() => {
      const silence = this.#env.now() - this.#heard;
      if (silence > 2 * silentMs) return this.#reconnect(this.#backoff.next());
      if (silence >= silentMs || this.#env.now() - this.#pinged >= 3 * silentMs) this.#ping();
      this.#guard();
    }, silentMs / 2);
  }

  #hear(text: string): void {
    this.#heard = this.#env.now();
    let frame: ServerFrame;
    try {
      frame = JSON.parse(text) as ServerFrame;
    } catch {
      return this.#reconnect(this.#backoff.next()); // not a server of ours, or a broken one
    }
    this.#follow(frame);
    // A type that this client does not know is of a newer server: let it pass.
    for (const listener of this.#listeners[frame.type] ?? []) (listener as (frame: ServerFrame) => void)(frame);
    this.#caughtUp(frame);
  }

  /** Keeps epoch, seq and claims before the listeners hear. */
  #follow(frame: ServerFrame): void {
    switch (frame.type) {
      case "welcome":
        if (frame.epoch !== this.#epoch) this.#seq = this.#newest = 0;
        this.#epoch = frame.epoch;
        this.#behind = new Set(this.#watches.keys());
        this.#become("catching-up");
        for (const watch of this.#watches.values()) this.#send({ type: "watch", ...watch });
        this.#ping();
        break;
      case "snapshot":
      case "delta":
      case "standings":
        if (frame.seq > this.#newest) {
          this.#seq = this.#newest;
          this.#newest = frame.seq;
        }
        break;
      case "outcome":
        this.#settle(frame.id)?.resolve(frame);
        break;
      case "error":
        if (frame.id !== undefined) this.#settle(frame.id)?.resolve(frame);
        break;
      case "drain":
        this.#env.clearTimeout(this.#timer);
        this.#timer = this.#env.setTimeout(() => this.#reconnect(0), this.#env.random() * frame.within_ms);
        break;
    }
  }

  /** Becomes live once every hunt watched was heard of, or the server has nothing to add. */
  #caughtUp(frame: ServerFrame): void {
    if (frame.type === "snapshot" || frame.type === "delta") this.#behind.delete(frame.hunt);
    else if (frame.type === "pong") this.#behind.clear();
    else if (frame.type !== "welcome") return;
    if (this.#state !== "catching-up" || this.#behind.size > 0) return;
    this.#backoff.reset();
    this.#become("live");
  }
}

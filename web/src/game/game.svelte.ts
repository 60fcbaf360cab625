import { Client, Problem } from "../api/client";
import type { Hunt, PuzzleKind, Row, Verdict } from "../api/types";
import { cover, type Box } from "../geo/geohash";
import { LiveClient, type Board, type DeltaFrame, type LiveMap, type SnapshotFrame, type State } from "@veltrix/cairn-client";
import { readPrompt, type Prompt } from "../puzzles/prompt";
import { claimTile } from "./claims";
import { Clock } from "./clock";
import { money, span } from "./money";
import { keepSession, loadSession, type Session } from "./session";
import { standing, Tiles, type TileView } from "./tiles";
import { Toasts } from "./toasts.svelte";

const regionsMost = 32;
const lettersMost = 5; // of a region: finer ones would change with every drag
const settleMs = 200; // a view must rest before it is watched
const huntsMs = 30_000; // between looks at the hunts there are
const overdueMs = 5_000; // the same while no map opens: it may be paused, or over

/** A puzzle that is open on the screen. */
export interface Open {
  tile: TileView;
  prompt: Prompt | undefined; // undefined while it is fetched
  token: string;
  sending: boolean;
  note: string; // what to tell the player about the last try
  round: number; // grows with each wrong answer, so that the puzzle starts anew
}

/** Everything that the page knows: the one place where frames become state. */
export class Game {
  readonly client = new Client();
  readonly clock = new Clock();
  readonly toasts = new Toasts();
  readonly live: LiveClient;

  hunts = $state.raw<Hunt[]>([]);
  hunt = $state.raw<Hunt>();
  session = $state.raw<Session | undefined>(loadSession());
  connection = $state<State>("connecting");
  open = $state<Open>();
  board = $state.raw<Row[]>([]); // the top of the whole hunt, as told live
  signingIn = $state(false);
  trouble = $state(""); // why there is nothing to see
  won = $state(0); // tiles that this page claimed

  /** Grows with every change of the tiles: what derives from them reads it. */
  changes = $state(0);

  tiles = new Tiles("");

  /** Called with each tile as it is claimed by somebody. */
  onClaimed: (tile: TileView, mine: boolean) => void = () => {};

  #view: Box | undefined;
  #viewTimer: ReturnType<typeof setTimeout> | undefined;
  #watched = "";
  #opened = 0; // when the newest map opened that was heard of
  #looked = 0; // when the hunts were looked at, by the server's clock
  #wanted: TileView | undefined; // to be claimed after signing in

  constructor() {
    this.live = new LiveClient({ url: "/v1/live", ...(this.session && { token: this.session.token }) });
    this.client.token = this.session?.token;
    this.client.refused = () => this.#refuse();
    this.live.on("state", (state) => (this.connection = state));
    for (const type of ["welcome", "pong"] as const) this.live.on(type, (frame) => this.clock.heard(Date.parse(frame.now)));
    this.live.on("snapshot", (frame) => this.#snapshot(frame));
    this.live.on("delta", (frame) => this.#delta(frame));
    this.live.on("standings", (frame) => frame.hunt === this.hunt?.id && this.#standings([frame]));
    this.live.on("error", (frame) => frame.id === undefined && this.#error(frame.code, frame.detail));
  }

  get player(): string | undefined {
    return this.session?.player;
  }

  /** Why no map opens, in words; "" while maps do. */
  get notice(): string {
    if (this.trouble) return this.trouble;
    switch (this.hunt?.state) {
      case "draft":
        return "This hunt has not begun yet.";
      case "paused":
        return "The hunt is paused. New tiles come when it goes on.";
      case "ended":
        return "This hunt has ended. Ranks and rewards stand.";
      default:
        return "";
    }
  }

  /** The period of maps, in milliseconds. */
  get tickMs(): number {
    return this.hunt?.tick_ms ?? 1_000;
  }

  async start(): Promise<void> {
    for (const event of ["online", "offline"]) addEventListener(event, () => this.live.probe());
    for (const event of ["visibilitychange", "resume"]) document.addEventListener(event, () => document.visibilityState === "visible" && this.live.probe());
    setInterval(() => this.tiles.expire(this.clock.now()) && this.changes++, 250);
    setInterval(() => this.#lookAgain(), 1_000);
    await this.#loadHunts();
    this.live.start();
  }

  /** No frame tells that a hunt was paused or has ended, only that no map opens any more. */
  #lookAgain(): void {
    const now = this.clock.now();
    if (!this.hunt || document.visibilityState !== "visible") return;
    const overdue = now - this.#opened > 2 * this.tickMs + 1_000;
    const goesOn = !overdue && this.hunt.state !== "live";
    if (now - this.#looked > (goesOn ? 1_000 : overdue ? overdueMs : huntsMs)) void this.#loadHunts();
  }

  async #loadHunts(): Promise<void> {
    this.#looked = this.clock.now();
    try {
      const { hunts, now } = await this.client.hunts();
      this.hunts = hunts;
      this.clock.heard(Date.parse(now));
      if (this.hunt) {
        const known = hunts.find(({ id }) => id === this.hunt?.id);
        if (known && known.state !== this.hunt.state) this.hunt = known;
        return;
      }
      const asked = new URLSearchParams(location.search).get("hunt");
      const hunt = this.hunts.find(({ id }) => id === asked) ?? this.hunts.find(({ state }) => state === "live") ?? this.hunts[0];
      this.trouble = hunt ? "" : "There is no hunt yet. This page looks again by itself.";
      if (hunt) this.choose(hunt);
      else setTimeout(() => void this.#loadHunts(), 3_000);
    } catch (why) {
      if (this.hunt) return; // the pill tells of the connection
      this.trouble = `${why instanceof Problem ? why.message : String(why)} This page tries again by itself.`;
      setTimeout(() => void this.#loadHunts(), 2_000);
    }
  }

  /** Turns to another hunt. */
  choose(hunt: Hunt): void {
    if (hunt.id === this.hunt?.id) return;
    if (this.hunt) this.live.watch({ hunt: this.hunt.id, regions: [], standings: false });
    this.hunt = hunt;
    this.tiles = new Tiles(hunt.id);
    this.board = [];
    this.open = undefined;
    this.#watched = "";
    this.#opened = this.clock.now();
    this.changes++;
    this.#watch();
  }

  /** Tells what is on the screen; once it rests, that is what is watched. */
  look(view: Box): void {
    this.#view = view;
    clearTimeout(this.#viewTimer);
    if (this.#watched === "") this.#watch();
    else this.#viewTimer = setTimeout(() => this.#watch(), settleMs);
  }

  #watch(): void {
    if (!this.hunt || !this.#view) return;
    const regions = cover(this.#view, regionsMost, lettersMost);
    const watched = `${this.hunt.id}:${regions.join()}`;
    if (watched === this.#watched) return;
    this.#watched = watched;
    this.live.watch({ hunt: this.hunt.id, regions, standings: true });
  }

  #snapshot(frame: SnapshotFrame): void {
    if (frame.hunt !== this.hunt?.id) return;
    this.tiles.replace(frame);
    if (frame.standings) this.#standings(frame.standings);
    for (const map of frame.maps) for (const claim of map.claimed ?? []) this.clock.passed(Date.parse(claim.at));
    this.#maps(frame.maps);
    this.changes++;
  }

  #delta(frame: DeltaFrame): void {
    if (frame.hunt !== this.hunt?.id) return;
    for (const claim of frame.claimed ?? []) this.clock.passed(Date.parse(claim.at));
    this.#maps(frame.opened ?? []);
    for (const tile of this.tiles.apply(frame)) this.#taken(tile);
    this.changes++;
  }

  #maps(maps: LiveMap[]): void {
    for (const { opens } of maps) this.#opened = Math.max(this.#opened, Date.parse(opens));
  }

  #standings(boards: Board[]): void {
    const board = boards.find(({ window, region }) => window === "hunt" && region === "");
    if (board) this.board = board.rows;
  }

  /** A tile was claimed: pulse, and tell whoever was still solving its puzzle. */
  #taken(tile: TileView): void {
    const mine = tile.holder?.player === this.player;
    this.onClaimed(tile, mine);
    if (this.open?.tile.key === tile.key && !mine && !this.open.sending) {
      this.open = undefined;
      this.toasts.show("lost", "took it first", "While you were at the puzzle.", tile.holder?.name ?? "Someone");
    }
  }

  #error(code: string, detail: string): void {
    if (code === "unauthorized" || code === "forbidden") this.#refuse();
    else this.toasts.show("plain", "The server says", detail);
  }

  /** The token is no longer taken: whoever plays must sign in again. */
  #refuse(): void {
    if (!this.session) return;
    this.signOut();
    this.signingIn = true;
    this.toasts.show("plain", "Please sign in again", "The server no longer knows this sign-in.");
  }

  async signIn(name: string): Promise<void> {
    const { player, token } = await this.client.signIn(name);
    this.session = { player, name, token };
    keepSession(this.session);
    this.client.token = token;
    this.live.as(token);
    this.signingIn = false;
    this.changes++;
    const wanted = this.#wanted;
    this.#wanted = undefined;
    if (wanted) void this.pick(wanted);
  }

  signOut(): void {
    this.session = undefined;
    this.client.token = undefined;
    keepSession(undefined);
    this.live.as(undefined);
    this.changes++;
  }

  /** A tile was chosen: claims it if it is a pure race, else opens its puzzle. */
  async pick(tile: TileView): Promise<void> {
    const now = this.clock.now();
    const how = standing(tile, this.player, now);
    if (how === "closed") return this.toasts.show("plain", "This map has closed", tile.geohash);
    if (how === "soon") return this.toasts.show("plain", "This map opens in a moment", tile.geohash);
    if (how === "mine") return this.toasts.show("won", "This tile is yours", `${money(tile.reward)} · ${tile.geohash}`);
    if (how === "taken") return this.toasts.show("plain", "holds this tile", `${money(tile.reward)} · ${tile.geohash}`, tile.holder?.name ?? "Another");
    if (!this.session) {
      this.#wanted = tile;
      this.signingIn = true;
      return;
    }
    const open: Open = { tile, prompt: undefined, token: "", sending: false, note: "", round: 0 };
    if (tile.kind === "tap") return this.#claim({ ...open, prompt: { kind: "tap" } }, "");
    this.open = open;
    try {
      const { kind, prompt, token } = await this.client.puzzle(tile);
      if (this.open?.tile.key !== tile.key) return; // closed or replaced meanwhile
      this.open = { ...this.open, prompt: readPrompt(kind as PuzzleKind, prompt), token };
    } catch (why) {
      if (this.open?.tile.key === tile.key) this.open = undefined;
      this.toasts.show("plain", "The puzzle did not come", why instanceof Error ? why.message : String(why));
    }
  }

  /** Answers the puzzle that is open. */
  async answer(answer: string): Promise<void> {
    if (this.open && !this.open.sending) await this.#claim(this.open, answer);
  }

  close(): void {
    this.open = undefined;
  }

  async #claim(open: Open, answer: string): Promise<void> {
    const shown = (): boolean => this.open?.tile.key === open.tile.key;
    if (shown()) this.open = { ...open, sending: true, note: "" };
    const verdict = await claimTile(this.client, this.live, open.tile, answer, open.token).catch((why: unknown): Verdict => ({ outcome: "error", code: "failed", detail: String(why) }));
    if (verdict.outcome === "wrong" && verdict.attempts_left > 0 && shown()) {
      this.open = { ...open, sending: false, round: open.round + 1, note: `Not right. ${verdict.attempts_left} ${verdict.attempts_left === 1 ? "try" : "tries"} left.` };
      return;
    }
    if (verdict.outcome === "throttled" && shown()) {
      this.open = { ...open, sending: false, round: open.round + 1, note: `Too fast: wait ${span(verdict.retry_after_ms)}.` };
      return;
    }
    if (shown()) this.open = undefined;
    this.#tell(open.tile, verdict);
  }

  /** Tells how a claim ended. */
  #tell(tile: TileView, verdict: Verdict): void {
    const where = `${tile.geohash} · map ${tile.tick}`;
    switch (verdict.outcome) {
      case "won":
        this.won++;
        this.tiles.hold(tile.key, { player: this.session?.player ?? "", name: this.session?.name ?? "", at: this.clock.now() });
        this.onClaimed(tile, true);
        this.toasts.show("won", `Yours: ${money(verdict.reward)}`, where);
        break;
      case "gone":
        this.tiles.hold(tile.key, { player: verdict.winner, name: verdict.winner_name, at: this.clock.now() - verdict.margin_ms });
        this.toasts.show("lost", `was ${span(verdict.margin_ms)} faster`, where, verdict.winner_name);
        break;
      case "wrong":
        this.toasts.show("lost", "Not right, and no tries left", where);
        break;
      case "closed":
        this.toasts.show("plain", "This map has closed", where);
        break;
      case "unknown_tile":
        this.toasts.show("plain", "There is no such tile", where);
        break;
      case "throttled":
        this.toasts.show("plain", "Too fast", `Wait ${span(verdict.retry_after_ms)}.`);
        break;
      case "pending":
        this.toasts.show("plain", "Still undecided", "Your rewards will show how it ended.");
        break;
      case "error":
        this.toasts.show("plain", "Not claimed", verdict.detail);
        break;
    }
    this.changes++;
  }
}

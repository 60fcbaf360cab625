import { Emitter } from "./emitter.js";
import type { Board, ClaimedTile, DeltaFrame, LiveMap, SnapshotFrame, StandingsFrame } from "./frames.js";
import { Progress, type Fit } from "./progress.js";

/** Who holds a tile, and since when by the server's clock (RFC 3339). */
export interface Holder {
  player: string;
  name: string;
  at: string;
}

/** A tile of an open map. All but its holder never changes. */
export interface Tile {
  readonly map: number;
  readonly index: number;
  readonly geohash: string;
  readonly puzzle: string;
  /** Micro-units. */
  readonly reward: number;
  readonly holder: Holder | undefined;
}

/** An open map: those of its tiles that lie in the regions watched, by index. */
export interface OpenMap {
  readonly tick: number;
  readonly opens: string;
  readonly closes: string;
  readonly tiles: ReadonlyMap<number, Tile>;
}

/** What one frame changed in a view. */
export interface Change {
  /** A snapshot replaced everything, and the rest tells nothing: look at the view. */
  reset: boolean;
  opened: OpenMap[];
  /** Tiles that were free before. */
  claimed: Tile[];
  closed: number[];
  boards: Board[];
}

export interface ViewEvents {
  change: Change;
}

interface MutableMap extends OpenMap {
  tiles: Map<number, { -readonly [K in keyof Tile]: Tile[K] }>;
}

const hourMs = 3_600_000;
const boardKey = (window: string, region: string, hour?: string): string => `${window}/${hour ?? ""}/${region}`;

/**
 * What there is to see of one hunt in the regions watched: its open maps, who
 * holds their tiles, and the standings. It is a fold of the server's frames, and
 * hearing a thing twice changes nothing. `LiveClient.view` gives one that
 * follows a connection; one made by hand folds frames from anywhere, such as
 * the events of `/v1/events`.
 *
 * Keep tiles by their key, not by reference: a snapshot makes new ones.
 */
export class HuntView extends Emitter<ViewEvents> {
  readonly #progress = new Progress();
  #maps = new Map<number, MutableMap>();
  #boards = new Map<string, Board>();
  #told = new Map<string, Holder>(); // by answers, for tiles whose claim no frame has told

  constructor(readonly hunt: string) {
    super();
  }

  /** The open maps, by tick. */
  get maps(): ReadonlyMap<number, OpenMap> {
    return this.#maps;
  }

  /** The standings that were told. */
  get boards(): Iterable<Board> {
    return this.#boards.values();
  }

  /** The regions that are known, each up to which sweep. Empty before the first snapshot. */
  get regions(): ReadonlyMap<string, number> {
    return this.#progress.regions;
  }

  tile(map: number, index: number): Tile | undefined {
    return this.#maps.get(map)?.tiles.get(index);
  }

  /** A board, of everywhere unless a region is named; `hour` is the beginning of an hour's board. */
  board(window: Board["window"], region = "", hour?: string): Board | undefined {
    return this.#boards.get(boardKey(window, region, hour));
  }

  /**
   * Folds a frame of this hunt, and says what it was (see {@link Fit}). After a
   * `gap` the view is as it was; only a snapshot mends it.
   */
  apply(frame: SnapshotFrame | DeltaFrame | StandingsFrame): Fit {
    switch (frame.type) {
      case "snapshot":
        this.#replace(frame);
        return "news";
      case "delta": {
        const fit = this.#progress.delta(frame);
        if (fit === "news") this.#delta(frame);
        return fit;
      }
      case "standings":
        if (!this.#progress.standings(frame.seq)) return "early";
        this.#keep(frame);
        this.#changed({ boards: [frame] });
        return "news";
    }
  }

  /**
   * Notes who holds a tile, as the answer to a claim told it. A snapshot that is
   * older than the answer does not undo it.
   */
  hold(map: number, index: number, holder: Holder): void {
    const tile = this.#maps.get(map)?.tiles.get(index);
    if (!tile || tile.holder) return;
    tile.holder = holder;
    this.#told.set(`${map}/${index}`, holder);
    this.#changed({ claimed: [tile] });
  }

  /** Forgets maps that had closed by a time of the server's clock, in milliseconds: for when nothing is heard. */
  expire(now: number): void {
    const closed = [...this.#maps.values()].filter(({ closes }) => Date.parse(closes) <= now).map(({ tick }) => tick);
    for (const tick of closed) this.#close(tick);
    if (closed.length) this.#changed({ closed });
  }

  /** Forgets how far it got, but not what it shows: the epoch is another, and a snapshot follows. */
  restart(): void {
    this.#progress.forget();
  }

  #replace(frame: SnapshotFrame): void {
    this.#progress.snapshot(frame);
    this.#maps = new Map();
    this.#boards = new Map();
    for (const board of frame.standings ?? []) this.#keep(board);
    // Without regions nothing tells that a map closed; and no tile of it is seen.
    for (const map of frame.regions.length ? frame.maps : []) {
      this.#open(map);
      for (const claim of map.claimed ?? []) this.#claim(claim);
    }
    for (const [key, holder] of this.#told) {
      const [map, index] = key.split("/").map(Number) as [number, number];
      const tile = this.#maps.get(map)?.tiles.get(index);
      if (tile) tile.holder ??= holder;
      if (!tile) this.#told.delete(key);
    }
    this.#changed({ reset: true });
  }

  #delta(frame: DeltaFrame): void {
    const opened = (frame.opened ?? []).map((map) => this.#open(map));
    const claimed = (frame.claimed ?? []).map((claim) => this.#claim(claim)).filter((tile) => tile !== undefined);
    const closed = (frame.closed ?? []).filter((tick) => this.#close(tick));
    this.#changed({ opened, claimed, closed });
  }

  /** Takes a map, or the part of it that lies in one more region. */
  #open({ tick, opens, closes, tiles }: LiveMap): OpenMap {
    let map = this.#maps.get(tick);
    if (!map) this.#maps.set(tick, (map = { tick, opens, closes, tiles: new Map() }));
    for (const { index, geohash, puzzle, reward } of tiles) {
      if (!map.tiles.has(index)) map.tiles.set(index, { map: tick, index, geohash, puzzle, reward, holder: undefined });
    }
    return map;
  }

  /** Returns the tile if it was free; a tile out of view is let pass. */
  #claim({ map, tile: index, player, name, at }: ClaimedTile): Tile | undefined {
    const tile = this.#maps.get(map)?.tiles.get(index);
    if (!tile) return undefined;
    const free = tile.holder === undefined;
    tile.holder = { player, name, at };
    this.#told.delete(`${map}/${index}`);
    return free ? tile : undefined;
  }

  /** Keeps a board, and of hours' boards those of the newest hour told and the one before, as the server does. */
  #keep(board: Board): void {
    this.#boards.set(boardKey(board.window, board.region, board.hour), board);
    const oldest = Date.parse(board.hour ?? "") - hourMs;
    for (const [key, { hour }] of this.#boards) if (hour !== undefined && Date.parse(hour) < oldest) this.#boards.delete(key);
  }

  #close(tick: number): boolean {
    for (const index of this.#maps.get(tick)?.tiles.keys() ?? []) this.#told.delete(`${tick}/${index}`);
    return this.#maps.delete(tick);
  }

  #changed(change: Partial<Change>): void {
    this.emit("change", { reset: false, opened: [], claimed: [], closed: [], boards: [], ...change });
  }
}

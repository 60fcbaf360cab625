import type { PuzzleKind, TileRef } from "../api/types";
import { decode, type Box } from "../geo/geohash";
import type { ClaimedTile, DeltaFrame, LiveMap, SnapshotFrame } from "@veltrix/cairn-client";
import { mercatorX, mercatorY } from "../map/mercator";

/** Who holds a tile. */
export interface Holder {
  player: string;
  name: string;
  at: number; // when, in milliseconds of the server's clock
}

/** A tile of a map that is, or was, open. */
export interface TileView extends TileRef {
  key: string;
  geohash: string;
  kind: PuzzleKind;
  reward: number; // micro-units
  opens: number; // milliseconds of the server's clock
  closes: number;
  lon: number; // of its middle
  lat: number;
  x: number; // its north-west corner in the unit square of Web Mercator
  y: number;
  w: number; // its extent there
  h: number;
  holder: Holder | undefined;
}

/** How a tile stands for a player at a moment. */
export type Standing = "soon" | "open" | "expiring" | "mine" | "taken" | "closed";

/** A tile fades in its last seconds, so that nobody starts on what is about to go. */
export const expiringMs = 5_000;

export function standing(tile: TileView, player: string | undefined, now: number): Standing {
  if (now >= tile.closes) return "closed";
  if (tile.holder) return tile.holder.player === player ? "mine" : "taken";
  if (now < tile.opens) return "soon";
  return tile.closes - now <= expiringMs ? "expiring" : "open";
}

export const tileKey = (tick: number, index: number): string => `${tick}/${index}`;

/**
 * The tiles of one hunt in the regions that are watched: a fold of snapshots
 * and deltas, in which hearing a thing twice changes nothing.
 */
export class Tiles {
  readonly #byKey = new Map<string, TileView>();
  readonly #keysOfMap = new Map<number, Set<string>>();

  constructor(readonly hunt: string) {}

  get size(): number {
    return this.#byKey.size;
  }

  all(): Iterable<TileView> {
    return this.#byKey.values();
  }

  get(key: string): TileView | undefined {
    return this.#byKey.get(key);
  }

  /** Replaces everything. */
  replace(snapshot: SnapshotFrame): void {
    const before = new Map(this.#byKey);
    this.#byKey.clear();
    this.#keysOfMap.clear();
    for (const map of snapshot.maps) this.#open(map, before);
  }

  /** Folds a delta and returns the tiles that were claimed in it and were not before. */
  apply(delta: DeltaFrame): TileView[] {
    for (const map of delta.opened ?? []) this.#open(map);
    const claimed = (delta.claimed ?? []).map((claim) => this.#claim(claim));
    for (const tick of delta.closed ?? []) this.#close(tick);
    return claimed.filter((tile) => tile !== undefined);
  }

  /** Notes who holds a tile, told by the answer to a claim. */
  hold(key: string, holder: Holder): void {
    const tile = this.#byKey.get(key);
    if (tile) tile.holder = holder;
  }

  /** Forgets maps that closed, told or not. Returns whether there were any. */
  expire(now: number): boolean {
    const size = this.size;
    for (const [tick, keys] of this.#keysOfMap) {
      const [key] = keys;
      const tile = key === undefined ? undefined : this.#byKey.get(key);
      if (!tile || tile.closes <= now) this.#close(tick);
    }
    return this.size !== size;
  }

  #open(map: LiveMap, before?: Map<string, TileView>): void {
    const opens = Date.parse(map.opens), closes = Date.parse(map.closes);
    let keys = this.#keysOfMap.get(map.tick);
    if (!keys) this.#keysOfMap.set(map.tick, (keys = new Set()));
    for (const { index, geohash, puzzle, reward } of map.tiles) {
      const key = tileKey(map.tick, index);
      if (this.#byKey.has(key)) continue;
      keys.add(key);
      // A tile never changes but for its holder, and what an answer told of that
      // outlives a snapshot older than the answer.
      const known = before?.get(key);
      this.#byKey.set(key, known ?? { key, hunt: this.hunt, tick: map.tick, index, geohash, kind: puzzle as PuzzleKind, reward, opens, closes, ...place(geohash), holder: undefined });
    }
    for (const claim of map.claimed ?? []) this.#claim(claim);
  }

  #claim({ map, tile: index, player, name, at }: ClaimedTile): TileView | undefined {
    const tile = this.#byKey.get(tileKey(map, index));
    if (!tile) return undefined;
    const known = tile.holder !== undefined;
    tile.holder = { player, name, at: Date.parse(at) };
    return known ? undefined : tile;
  }

  #close(tick: number): void {
    for (const key of this.#keysOfMap.get(tick) ?? []) this.#byKey.delete(key);
    this.#keysOfMap.delete(tick);
  }
}

/** Where a geohash lies. */
function place(geohash: string): Pick<TileView, "lon" | "lat" | "x" | "y" | "w" | "h"> {
  const { west, south, east, north }: Box = decode(geohash);
  const x = mercatorX(west), y = mercatorY(north);
  return { lon: (west + east) / 2, lat: (south + north) / 2, x, y, w: mercatorX(east) - x, h: mercatorY(south) - y };
}

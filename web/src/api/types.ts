export type PuzzleKind = "tap" | "cipher" | "lights" | "echo" | "odd";

export const puzzleKinds: readonly PuzzleKind[] = ["tap", "cipher", "lights", "echo", "odd"];

/** A tile as a map's body has it. */
export interface Tile {
  index: number;
  geohash: string;
  puzzle: PuzzleKind;
  reward: number; // micro-units
}

export interface TreasureMap {
  hunt: string;
  tick: number;
  opens: string;
  closes: string;
  tiles: Tile[];
}

export interface Hunt {
  id: string;
  name: string;
  state: "draft" | "live" | "paused" | "ended";
  region?: { geohash?: string; bbox?: [number, number, number, number]; geojson?: unknown };
  tick_ms?: number; // from one map to the next
}

export interface Row {
  rank: number;
  player: string;
  name: string;
  score: number; // micro-units
  claims: number;
}

export interface Standings {
  rows: Row[];
  lag_ms?: number;
}

export interface Reward {
  hunt: string;
  map: number;
  tile: number;
  reward: number; // micro-units
  geohash?: string;
  at?: string;
  state: string; // "settled" until it is "paid"
}

export interface RewardsPage {
  rewards: Reward[];
  next?: string;
  balance?: number; // micro-units
}

/** How an attempt ended, over HTTP or the socket; `error` is any other problem. */
export type Verdict =
  | { outcome: "won"; offset: string; reward: number }
  | { outcome: "gone"; winner: string; winner_name: string; margin_ms: number }
  | { outcome: "wrong"; attempts_left: number }
  | { outcome: "closed" | "unknown_tile" | "pending" }
  | { outcome: "throttled"; retry_after_ms: number }
  | { outcome: "error"; code: string; detail: string };

/** What names a tile for ever. */
export interface TileRef {
  hunt: string;
  tick: number;
  index: number;
}

/** An attempt, as POST …/claims takes it. */
export interface Attempt {
  map: number;
  tile: number;
  claim_id: string;
  answer?: string;
  token?: string;
}

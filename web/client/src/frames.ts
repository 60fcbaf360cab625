// The frames of /v1/live in cairn.v1.json: one JSON object a text message.

/** What a client watches of one hunt; it replaces what it watched there before. */
export interface Watch {
  hunt: string;
  regions: string[]; // geohash prefixes
  standings: boolean;
}

/** An attempt for a tile. */
export interface Claim {
  hunt: string;
  map: number;
  tile: number;
  claim_id: string;
  answer?: string;
  token?: string;
}

export interface WelcomeFrame {
  type: "welcome";
  epoch: string;
  seq: number;
  player?: string;
  now: string; // the server's time, RFC 3339
}

export interface LiveTile {
  index: number;
  geohash: string;
  puzzle: string;
  reward: number; // micro-units
}

export interface ClaimedTile {
  map: number;
  tile: number;
  player: string;
  name: string;
  at: string;
}

/** The part of an open map that lies in a region; `claimed` only in a snapshot. */
export interface LiveMap {
  tick: number;
  opens: string;
  closes: string;
  tiles: LiveTile[];
  claimed?: ClaimedTile[];
}

export interface StandingsRow {
  rank: number;
  player: string;
  name: string;
  score: number; // micro-units
  claims: number;
}

/** The top of a leaderboard, of the whole hunt or of one UTC hour, of everywhere ("") or a region. */
export interface Board {
  window: "hunt" | "hour";
  hour?: string; // the hour's beginning
  region: string;
  lag_ms: number;
  players: number; // how many have a rank
  rows: StandingsRow[];
}

export interface StandingsFrame extends Board {
  type: "standings";
  hunt: string;
  seq: number;
}

/** All that is open in the regions watched; it replaces what the client held. */
export interface SnapshotFrame {
  type: "snapshot";
  hunt: string;
  seq: number;
  regions: string[]; // as the watch had them, sorted
  maps: LiveMap[];
  standings?: Board[];
}

/** What changed in one region in the sweeps after `from`, up to `seq`. */
export interface DeltaFrame {
  type: "delta";
  hunt: string;
  region: string;
  from: number;
  seq: number;
  opened?: LiveMap[];
  closed?: number[];
  claimed?: ClaimedTile[];
}

/** How a claim ended: the rest is the body that POST …/claims answers with. */
export interface OutcomeFrame {
  type: "outcome";
  id: string;
  [field: string]: unknown;
}

export interface DrainFrame {
  type: "drain";
  within_ms: number;
}

export interface ErrorFrame {
  type: "error";
  code: string;
  detail: string;
  id?: string; // of the claim that it is about
}

export interface PongFrame {
  type: "pong";
  seq: number;
  now: string;
}

export type ServerFrame = WelcomeFrame | SnapshotFrame | DeltaFrame | StandingsFrame | OutcomeFrame | DrainFrame | ErrorFrame | PongFrame;

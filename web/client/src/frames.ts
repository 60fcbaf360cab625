// The frames of /v1/live in cairn.v1.json: one JSON object a text message.

/** What a client watches of one hunt; it replaces what it watched there before. */
export interface Watch {
  hunt: string;
  /** Geohash prefixes. */
  regions: string[];
  standings: boolean;
}

/** An attempt for a tile. */
export interface Claim {
  hunt: string;
  map: number;
  tile: number;
  /** Yours; it comes back in the outcome, and decides nothing. */
  claim_id?: string;
  answer?: string;
  token?: string;
}

/** Answers hello. One that comes later, with another epoch, says that the gateway read the logs anew. */
export interface WelcomeFrame {
  type: "welcome";
  epoch: string;
  seq: number;
  player?: string;
  /** The server's time, RFC 3339. */
  now: string;
}

/** A tile as it opens. */
export interface LiveTile {
  index: number;
  geohash: string;
  puzzle: string;
  /** Micro-units. */
  reward: number;
}

/** Who claimed a tile, and when. */
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

/** A place on a board. */
export interface StandingsRow {
  rank: number;
  player: string;
  name: string;
  /** Micro-units. */
  score: number;
  claims: number;
}

/** The top of a leaderboard, of the whole hunt or of one UTC hour, of everywhere ("") or a region. */
export interface Board {
  window: "hunt" | "hour";
  /** The hour's beginning. */
  hour?: string;
  region: string;
  lag_ms: number;
  /** How many have a rank. */
  players: number;
  rows: StandingsRow[];
}

/** The newest version of one board. */
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
  /** As the watch had them, sorted. */
  regions: string[];
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

/** The gateway goes away: reconnect at a random moment within the time. */
export interface DrainFrame {
  type: "drain";
  within_ms: number;
}

/** What the server could not take. A connection that ends for it is closed next. */
export interface ErrorFrame {
  type: "error";
  code: string;
  detail: string;
  /** Of the claim that it is about. */
  id?: string;
}

/** Answers a ping. */
export interface PongFrame {
  type: "pong";
  seq: number;
  now: string;
}

/** What a server says. More types may come; the client lets them pass. */
export type ServerFrame = WelcomeFrame | SnapshotFrame | DeltaFrame | StandingsFrame | OutcomeFrame | DrainFrame | ErrorFrame | PongFrame;

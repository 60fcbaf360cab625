// A gateway in miniature, by docs/live.md: what the server keeps and says, on a
// network that loses what it likes.
import type { ClaimedTile, DeltaFrame, LiveMap, Socket, StandingsFrame, Watch } from "../src/index.js";
import { watchKey } from "../src/progress.js";

/** A seeded source of chance (mulberry32). */
export function chance(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What the simulation gives to all that lives in it. */
export interface Surroundings {
  random(): number;
  later(ms: number, call: () => void): void;
  /** How likely a fault is where one can be; 0 in calm times. */
  faults(): number;
}

const ringMost = 12; // deltas that a region keeps
const cells = ["u4x", "u4y", "u5x", "v0x", "v1y", "s8z"];
export const regionsThereAre = ["", "u", "u4", "u4x", "u5", "v", "v0x", "s8"];

interface Region {
  views: number;
  idle: number;
  base: number;
  last: number;
  ring: DeltaFrame[];
  pending: Pick<Required<DeltaFrame>, "opened" | "closed" | "claimed">;
}

/** One hunt as the gateway's fold has it. */
class Hunt {
  readonly maps = new Map<number, LiveMap & { claimed: ClaimedTile[] }>();
  readonly regions = new Map<string, Region>();
  board: StandingsFrame | undefined;
  #ticks = 0;

  constructor(readonly id: string) {}

  /** Opens, closes and claims at random. */
  change(random: () => number): void {
    if (random() < 0.3) {
      const tick = ++this.#ticks;
      const tiles = cells.flatMap((cell) => ["0", "1"].map((letter) => cell + letter)).filter(() => random() < 0.5).map((geohash, index) => ({ index, geohash, puzzle: "tap", reward: index + 1 }));
      const map = { tick, opens: `o${tick}`, closes: `c${tick}`, tiles, claimed: [] };
      this.maps.set(tick, map);
      for (const [cell, { pending }] of this.regions) pending.opened.push({ tick, opens: map.opens, closes: map.closes, tiles: tiles.filter(({ geohash }) => geohash.startsWith(cell)) });
    }
    if (random() < 0.3 && this.maps.size > 3) {
      const tick = [...this.maps.keys()][0]!; // the oldest
      this.maps.delete(tick);
      for (const { pending } of this.regions.values()) pending.closed.push(tick);
    }
    for (const map of this.maps.values()) {
      if (random() > 0.3) continue;
      const free = map.tiles.filter(({ index }) => !map.claimed.some(({ tile }) => tile === index));
      const tile = free[Math.floor(random() * free.length)];
      if (!tile) continue;
      const won = { map: map.tick, tile: tile.index, player: `p${Math.floor(random() * 5)}`, name: "P", at: `at${map.tick}` };
      map.claimed.push(won);
      for (const [cell, { pending }] of this.regions) if (tile.geohash.startsWith(cell)) pending.claimed.push(won);
    }
  }

  /** What is to be seen in regions. */
  seen(regions: string[]): (LiveMap & { claimed: ClaimedTile[] })[] {
    return [...this.maps.values()].map((map) => {
      const tiles = map.tiles.filter(({ geohash }) => regions.some((cell) => geohash.startsWith(cell)));
      return { ...map, tiles, claimed: map.claimed.filter(({ tile }) => tiles.some(({ index }) => index === tile)) };
    });
  }
}

/** How far a connection was told of a hunt. */
interface Cursor {
  watch: Watch;
  regions: string[]; // each has deltas, also one that lies in another
  seq: number | undefined; // undefined: nothing yet
}

class Connection {
  open = true;
  greeted = false;
  past: { epoch?: string; seq?: number } = {};
  readonly cursors = new Map<string, Cursor>();
  #at = 0; // frames arrive in order

  constructor(
    readonly socket: SimSocket,
    private readonly around: Surroundings,
    private readonly now: () => number,
  ) {}

  /** Sends a frame, which arrives later, unless the connection is cut before. */
  send(frame: object): void {
    const text = JSON.stringify(frame);
    this.#at = Math.max(this.#at, this.now() + this.around.random() * 120);
    this.around.later(this.#at - this.now(), () => {
      if (!this.open) return;
      this.socket.onmessage?.({ data: text } as never);
      // The next frame, maybe of the same sweep, is lost with the connection.
      if (this.around.random() < this.around.faults() / 4) this.cut();
    });
  }

  /** Ends the connection; the client may hear of it, soon or late, or not. */
  cut(): void {
    if (!this.open) return;
    this.open = false;
    if (this.around.random() < 0.8) this.around.later(this.around.random() * 300, () => this.socket.end());
  }
}

/** The client's end of a connection. */
export class SimSocket implements Socket {
  readyState = 0;
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;
  onerror: Socket["onerror"] = null;
  connection: Connection | undefined;

  constructor(
    private readonly gateway: Gateway,
    private readonly around: Surroundings,
  ) {
    gateway.dial(this);
  }

  send(text: string): void {
    const { connection } = this;
    this.around.later(1, () => connection?.open && this.gateway.hear(connection, JSON.parse(text) as Record<string, unknown>));
  }

  close(): void {
    this.readyState = 3;
    if (this.connection) this.connection.open = false;
  }

  end(): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.({ code: 1006, reason: "" } as never);
  }
}

/** The gateway: hunts, regions with their rings, sweeps, and connections. */
export class Gateway {
  readonly hunts = new Map(["oslo", "rome"].map((id) => [id, new Hunt(id)]));
  epoch = "e1";
  seq = 1;
  resumed = 0;
  readonly #connections = new Set<Connection>();
  #lives = 1;

  constructor(
    private readonly around: Surroundings,
    private readonly now: () => number,
  ) {}

  /** Answers a handshake, or refuses it, or never says a word. */
  dial(socket: SimSocket): void {
    const { random, later, faults } = this.around;
    const fate = random();
    if (fate < faults() / 4) return;
    if (fate < faults()) return later(random() * 50, () => socket.end());
    later(random() * 80, () => {
      if (socket.readyState === 3) return;
      socket.connection = new Connection(socket, this.around, this.now);
      this.#connections.add(socket.connection);
      socket.readyState = 1;
      socket.onopen?.({} as never);
    });
  }

  hear(connection: Connection, frame: Record<string, unknown>): void {
    if (frame.type === "hello") {
      connection.greeted = true;
      connection.past = frame;
      connection.send({ type: "welcome", epoch: this.epoch, seq: this.seq, now: "" });
    } else if (frame.type === "ping") {
      connection.send({ type: "pong", seq: this.seq, now: "" });
    } else if (frame.type === "claim") {
      connection.send({ type: "outcome", id: frame.id, outcome: "won" });
    } else if (frame.type === "watch") {
      this.#watch(connection, frame as unknown as Watch);
    }
  }

  #watch(connection: Connection, watch: Watch): void {
    const { past } = connection;
    connection.past = {};
    const before = connection.cursors.get(watch.hunt);
    if (before && watchKey(before.watch.regions, before.watch.standings) === watchKey(watch.regions, watch.standings)) return;
    if (before) this.#leave(before);
    connection.cursors.delete(watch.hunt);
    if (!watch.regions.length && !watch.standings) return;
    const resumes = past.epoch === this.epoch && past.seq !== undefined && past.seq <= this.seq;
    if (resumes) this.resumed++;
    const cursor: Cursor = { watch, regions: [...new Set(watch.regions)], seq: resumes ? past.seq! - 1 : undefined };
    for (const cell of cursor.regions) this.#region(watch.hunt, cell).views++;
    connection.cursors.set(watch.hunt, cursor);
    // Some are told at once, some with the next sweep.
    if (this.around.random() < 0.7) this.#tell(connection, cursor);
  }

  #region(hunt: string, cell: string): Region {
    const { regions } = this.hunts.get(hunt)!;
    let region = regions.get(cell);
    if (!region) regions.set(cell, (region = { views: 0, idle: 0, base: this.seq, last: this.seq, ring: [], pending: { opened: [], closed: [], claimed: [] } }));
    return region;
  }

  #leave({ watch, regions }: Cursor): void {
    for (const cell of regions) {
      const region = this.#region(watch.hunt, cell);
      if (--region.views === 0) region.idle = this.seq;
    }
  }

  /** Lets things happen, and tells of them. */
  sweep(busy: boolean): void {
    const { random, faults } = this.around;
    if (busy) for (const hunt of this.hunts.values()) if (random() < 0.5) hunt.change(random);
    this.seq++;
    for (const hunt of this.hunts.values()) {
      for (const [cell, region] of hunt.regions) this.#encode(hunt, cell, region);
      if (busy && random() < 0.2) hunt.board = { type: "standings", hunt: hunt.id, seq: this.seq, window: "hunt", region: "", lag_ms: 0, players: 1, rows: [{ rank: 1, player: "p", name: "P", score: this.seq, claims: 1 }] };
    }
    for (const connection of this.#connections) {
      if (!connection.open) this.#drop(connection);
      if (random() < faults() / 20) connection.cut();
      if (random() < faults() / 40) connection.send({ type: "drain", within_ms: 500 });
      // Hunts are told in no order, and a slow connection later.
      for (const cursor of [...connection.cursors.values()].sort(() => random() - 0.5)) if (random() > faults()) this.#tell(connection, cursor);
    }
    if (random() < faults() / 100) this.restart();
  }

  #encode(hunt: Hunt, cell: string, region: Region): void {
    const { pending } = region;
    if (region.views === 0) {
      if (this.seq - region.idle > ringMost) hunt.regions.delete(cell);
      return;
    }
    if (pending.opened.length + pending.closed.length + pending.claimed.length === 0) return;
    region.ring.push({ type: "delta", hunt: hunt.id, region: cell, from: region.last, seq: this.seq, ...pending });
    region.last = this.seq;
    region.pending = { opened: [], closed: [], claimed: [] };
    if (region.ring.length > ringMost) region.base = region.ring.shift()!.seq;
  }

  #drop(connection: Connection): void {
    for (const cursor of connection.cursors.values()) this.#leave(cursor);
    connection.cursors.clear();
    this.#connections.delete(connection);
  }

  /** Sends what a cursor lacks: out of the rings, else a snapshot. */
  #tell(connection: Connection, cursor: Cursor): void {
    const { watch, seq } = cursor;
    const hunt = this.hunts.get(watch.hunt)!;
    const regions = cursor.regions.map((cell) => this.#region(watch.hunt, cell));
    const skipped = this.around.random() < this.around.faults() / 10;
    cursor.seq = this.seq;
    if (seq !== undefined && !skipped && regions.every(({ base }) => base <= seq)) {
      const frames: { seq: number }[] = regions.flatMap(({ ring }) => ring.filter((delta) => delta.seq > seq));
      if (watch.standings && hunt.board && hunt.board.seq > seq) frames.push(hunt.board);
      for (const frame of frames.sort((a, b) => a.seq - b.seq)) connection.send(frame);
      return;
    }
    const boards = watch.standings && { standings: hunt.board ? [hunt.board] : [] };
    connection.send({ type: "snapshot", hunt: hunt.id, seq: this.seq, regions: [...new Set(watch.regions)].sort(), maps: hunt.seen(watch.regions), ...boards });
  }

  /** Reads the logs anew: another epoch, in which sweeps count from elsewhere. */
  restart(): void {
    this.epoch = `e${++this.#lives}`;
    this.seq = 1 + Math.floor(this.around.random() * this.seq * 2);
    for (const hunt of this.hunts.values()) {
      for (const [cell, region] of hunt.regions) {
        if (region.views === 0) hunt.regions.delete(cell);
        else hunt.regions.set(cell, { ...region, base: this.seq, last: this.seq, ring: [], pending: { opened: [], closed: [], claimed: [] } });
      }
      if (hunt.board) hunt.board = { ...hunt.board, seq: this.seq };
    }
    for (const connection of this.#connections) {
      if (connection.greeted) connection.send({ type: "welcome", epoch: this.epoch, seq: this.seq, now: "" });
      for (const cursor of connection.cursors.values()) {
        cursor.seq = undefined;
        if (this.around.random() < 0.5) this.#tell(connection, cursor);
      }
    }
  }
}

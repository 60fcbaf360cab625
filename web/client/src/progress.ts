import type { DeltaFrame, SnapshotFrame, Watch } from "./frames.js";

/** What a delta is to one who has got so far: see {@link Progress.delta}. */
export type Fit = "news" | "known" | "early" | "gap";

/** Names what a watch sees of its hunt: two watches with one key see the same. The world ("") is a region, unlike none. */
export const watchKey = (regions: Iterable<string>, standings: boolean): string => [...new Set(regions)].sort().map((region) => `${region},`).join("") + (standings ? "+" : "");

/**
 * How far a client has been told of one hunt, within one epoch: which regions
 * it knows, each up to which sweep. It keeps no tiles.
 */
export class Progress {
  #of: string | undefined; // the key of what is known
  readonly #known = new Map<string, number>();
  #newest = 0;

  /** The highest seq of the hunt's frames: what a client says in hello. 0 before a snapshot. */
  get seq(): number {
    return this.#newest;
  }

  /** The regions that are known, each up to which sweep. */
  get regions(): ReadonlyMap<string, number> {
    return this.#known;
  }

  /** Whether what is known is what the watch sees: then it may be resumed. */
  covers(watch: Watch): boolean {
    return this.#of === watchKey(watch.regions, watch.standings);
  }

  /** Forgets all: nothing fits until a snapshot comes. */
  forget(): void {
    this.#of = undefined;
    this.#known.clear();
    this.#newest = 0;
  }

  /** Takes a snapshot: every region of it is known up to its seq. */
  snapshot(frame: SnapshotFrame): void {
    this.#of = watchKey(frame.regions, frame.standings !== undefined);
    this.#known.clear();
    for (const region of frame.regions) this.#known.set(region, frame.seq);
    this.#newest = frame.seq;
  }

  /**
   * Takes a delta and says what it is:
   * - `news`: apply it
   * - `known`: it was applied, or a snapshot had it; leave it
   * - `early`: it belongs to a watch before; a snapshot is to come
   * - `gap`: something before it is missing. The progress is as it was
   */
  delta(frame: DeltaFrame): Fit {
    if (this.#of === undefined) return "early";
    const known = this.#known.get(frame.region);
    if (known === undefined || frame.from > known) return "gap";
    this.#newest = Math.max(this.#newest, frame.seq);
    if (frame.seq <= known) return "known";
    this.#known.set(frame.region, frame.seq);
    return "news";
  }

  /** Takes a board of a sweep, and says whether it may be shown: false before a snapshot. */
  standings(seq: number): boolean {
    if (this.#of === undefined) return false;
    this.#newest = Math.max(this.#newest, seq);
    return true;
  }
}

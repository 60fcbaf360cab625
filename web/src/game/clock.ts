/**
 * The server's time. A frame that tells it arrives later than it was written,
 * so of all differences heard the largest (server − local) is nearest; it is
 * forgotten after a while, since clocks drift. The local clock is the page's
 * own, which nobody sets while it runs.
 */
export class Clock {
  #samples: { at: number; ahead: number }[] = [];

  constructor(
    private readonly local: () => number = () => performance.timeOrigin + performance.now(),
    private readonly keepMs = 120_000,
  ) {}

  /** Learns from a time that the server wrote just now. */
  heard(serverMs: number): void {
    if (!Number.isFinite(serverMs)) return;
    const at = this.local();
    this.#samples = this.#samples.filter((sample) => at - sample.at < this.keepMs);
    this.#samples.push({ at, ahead: serverMs - at });
    if (this.#samples.length > 256) this.#samples.shift();
  }

  /** Learns from a time that is past by now, nobody knows for how long: it can only put the clock forward. */
  passed(serverMs: number): void {
    if (serverMs > this.now()) this.heard(serverMs);
  }

  /** How far the server's clock is ahead of ours, in milliseconds. */
  get ahead(): number {
    return this.#samples.length ? Math.max(...this.#samples.map((sample) => sample.ahead)) : 0;
  }

  now(): number {
    return this.local() + this.ahead;
  }
}

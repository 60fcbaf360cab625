/**
 * Waits between tries to reconnect, with full jitter: try n waits a random
 * part of min(cap, base × 2ⁿ), so that the clients of a gateway that died do
 * not come back as one.
 */
export class Backoff {
  #tries = 0;

  constructor(
    private readonly baseMs: number,
    private readonly capMs: number,
    private readonly random: () => number = Math.random,
  ) {}

  /** The next wait in milliseconds. */
  next(): number {
    const ceiling = Math.min(this.capMs, this.baseMs * 2 ** this.#tries);
    if (ceiling < this.capMs) this.#tries++;
    return this.random() * ceiling;
  }

  /** Starts anew, once a connection has proved itself. */
  reset(): void {
    this.#tries = 0;
  }
}

import type { Environment, ServerFrame, Socket } from "../src/index.js";

/** A world in which time goes by when it is told to. */
export class World {
  ms = 0;
  random = 0.5;
  sockets: FakeSocket[] = [];
  #timers = new Map<number, { at: number; call: () => void }>();
  #count = 0;

  readonly WebSocket = ((world: World) =>
    class extends FakeSocket {
      constructor(url: string, protocol: string) {
        super(url, protocol);
        world.sockets.push(this);
      }
    })(this);

  readonly environment: Environment = {
    setTimeout: (call, ms) => {
      this.#timers.set(++this.#count, { at: this.ms + ms, call });
      return this.#count;
    },
    clearTimeout: (timer) => void this.#timers.delete(timer as number),
    now: () => this.ms,
    random: () => this.random,
  };

  /** Lets time pass, timer by timer. */
  pass(ms: number): void {
    const end = this.ms + ms;
    for (;;) {
      const next = [...this.#timers].filter(([, timer]) => timer.at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!next) break;
      this.#timers.delete(next[0]);
      this.ms = Math.max(this.ms, next[1].at);
      next[1].call();
    }
    this.ms = end;
  }

  get socket(): FakeSocket {
    return this.sockets.at(-1)!;
  }
}

/** A connection whose other end is the test. */
export class FakeSocket implements Socket {
  readyState = 0;
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;
  onerror: Socket["onerror"] = null;
  sent: Record<string, unknown>[] = [];
  closed = false;

  constructor(
    readonly url: string,
    readonly protocol: string,
  ) {}

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Record<string, unknown>);
  }

  close(): void {
    this.closed = true;
    this.readyState = 3;
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.({} as never);
  }

  say(frame: ServerFrame | object): void {
    this.onmessage?.({ data: JSON.stringify(frame) } as never);
  }

  drop(): void {
    this.readyState = 3;
    this.onclose?.({} as never);
  }

  types(): unknown[] {
    return this.sent.map((frame) => frame.type);
  }
}

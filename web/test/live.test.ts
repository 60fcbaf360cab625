import { beforeEach, describe, expect, test } from "vitest";
import { Disconnected, LiveClient, type Environment, type ServerFrame, type Socket, type State } from "../src/live";

/** A world in which time goes by when it is told to. */
class World {
  ms = 0;
  random = 0.5;
  sockets: FakeSocket[] = [];
  #timers = new Map<number, { at: number; call: () => void }>();
  #count = 0;

  readonly environment: Environment = {
    WebSocket: ((world: World) =>
      class extends FakeSocket {
        constructor(url: string, protocol: string) {
          super(url, protocol);
          world.sockets.push(this);
        }
      })(this),
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

class FakeSocket implements Socket {
  readyState = 0;
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;
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

let world: World;
let client: LiveClient;
let states: State[];

beforeEach(() => {
  world = new World();
  client = new LiveClient({ url: "ws://here/v1/live", token: "t", environment: world.environment, backoffMs: 100, backoffCapMs: 1000, silentMs: 1000, claimMs: 500 });
  states = [];
  client.onState((state) => states.push(state));
});

const welcome = (epoch = "e", seq = 7) => ({ type: "welcome", epoch, seq, now: "2026-01-02T03:04:05.678Z" });
const snapshot = (seq: number) => ({ type: "snapshot", hunt: "demo", seq, maps: [] });
const delta = (seq: number, region = "u") => ({ type: "delta", hunt: "demo", region, from: seq - 1, seq });

/** Brings the client to live at a seq. */
function live(seq = 7): FakeSocket {
  client.watch({ hunt: "demo", regions: ["u"], standings: true });
  client.start();
  world.socket.open();
  world.socket.say(welcome("e", seq));
  world.socket.say(snapshot(seq));
  return world.socket;
}

describe("connecting", () => {
  test("says hello, watches, and is live when it heard of what it watches", () => {
    client.watch({ hunt: "demo", regions: ["u"], standings: true });
    client.start();
    expect(world.socket.protocol).toBe("cairn.v1.json");
    world.socket.open();
    expect(world.socket.sent).toEqual([{ type: "hello", token: "t" }]);
    world.socket.say(welcome());
    expect(world.socket.sent.slice(1)).toEqual([{ type: "watch", hunt: "demo", regions: ["u"], standings: true }, { type: "ping" }]);
    expect(client.state).toBe("catching-up");
    world.socket.say(snapshot(7));
    expect(states).toEqual(["connecting", "catching-up", "live"]);
  });

  test("is live with nothing to watch, and after a pong with nothing to hear", () => {
    client.start();
    world.socket.open();
    world.socket.say(welcome());
    expect(client.state).toBe("live");

    client.stop();
    client.watch({ hunt: "demo", regions: ["u"], standings: false });
    client.start();
    world.socket.open();
    world.socket.say(welcome());
    expect(client.state).toBe("catching-up");
    world.socket.say({ type: "pong", seq: 7, now: "" });
    expect(client.state).toBe("live");
  });

  test("a watch replaces the one before, and an empty one ends it", () => {
    const socket = live();
    client.watch({ hunt: "demo", regions: ["u4"], standings: true });
    client.watch({ hunt: "demo", regions: [], standings: false });
    expect(socket.sent.slice(-2)).toEqual([
      { type: "watch", hunt: "demo", regions: ["u4"], standings: true },
      { type: "watch", hunt: "demo", regions: [], standings: false },
    ]);
    socket.drop();
    world.pass(100);
    world.socket.open();
    world.socket.say(welcome());
    expect(world.socket.types()).toEqual(["hello", "ping"]);
  });

  test("frames go to those who listen, and unknown types to nobody", () => {
    const heard: number[] = [];
    const off = client.on("delta", (frame) => heard.push(frame.seq));
    const socket = live();
    socket.say(delta(8));
    socket.say({ type: "weather", seq: 9 });
    off();
    socket.say(delta(9));
    expect(heard).toEqual([8]);
    expect(client.state).toBe("live");
  });
});

describe("reconnecting", () => {
  test("resumes from the last sweep that it had whole", () => {
    const socket = live(7);
    socket.say(delta(8, "u"));
    socket.say(delta(9, "u")); // another region's delta of sweep 9 may be lost with the connection
    socket.drop();
    expect(client.state).toBe("reconnecting");
    world.pass(100);
    world.socket.open();
    expect(world.socket.sent[0]).toEqual({ type: "hello", token: "t", epoch: "e", seq: 8 });
    world.socket.say(welcome("e", 12));
    expect(client.state).toBe("catching-up");
    world.socket.say(delta(12));
    expect(states).toEqual(["connecting", "catching-up", "live", "reconnecting", "catching-up", "live"]);
  });

  test("starts anew in another epoch", () => {
    const socket = live(500);
    socket.say(delta(501));
    socket.drop();
    world.pass(100);
    world.socket.open();
    world.socket.say(welcome("f", 3));
    world.socket.say(snapshot(3));
    world.socket.say(delta(4));
    world.socket.drop();
    world.pass(100);
    world.socket.open();
    expect(world.socket.sent[0]).toMatchObject({ epoch: "f", seq: 3 });
  });

  test("waits longer each time, with jitter, until it was live again", () => {
    live().drop();
    world.pass(49);
    expect(world.sockets).toHaveLength(1);
    world.pass(1); // half of 100
    expect(world.sockets).toHaveLength(2);
    world.socket.drop();
    world.pass(99);
    expect(world.sockets).toHaveLength(2);
    world.pass(1); // half of 200
    expect(world.sockets).toHaveLength(3);
    world.socket.open();
    world.socket.say(welcome());
    world.socket.say(snapshot(8));
    world.socket.drop();
    world.pass(50); // half of 100 again
    expect(world.sockets).toHaveLength(4);
  });

  test("retry does not wait", () => {
    world.random = 0.99;
    live().drop();
    client.retry();
    world.pass(0);
    expect(world.sockets).toHaveLength(2);
  });

  test("gives up a connection that went silent", () => {
    const socket = live();
    world.pass(1000);
    expect(socket.types().filter((type) => type === "ping")).toHaveLength(2);
    world.pass(1500);
    expect(socket.closed).toBe(true);
    expect(client.state).toBe("reconnecting");
    world.pass(100);
    expect(world.sockets).toHaveLength(2);
  });

  test("a pong keeps it", () => {
    const socket = live();
    for (let i = 0; i < 10; i++) {
      world.pass(1000);
      socket.say({ type: "pong", seq: 7, now: "" });
    }
    expect(world.sockets).toHaveLength(1);
  });

  test("asks for the time now and then, however much it hears", () => {
    const socket = live();
    for (let i = 0; i < 20; i++) {
      world.pass(500);
      socket.say(delta(8 + i));
    }
    expect(socket.types().filter((type) => type === "ping")).toHaveLength(4); // at once, and every 3 s
  });

  test("a probe that is answered changes nothing", () => {
    const socket = live();
    client.probe();
    expect(socket.types().at(-1)).toBe("ping");
    world.pass(1);
    socket.say({ type: "pong", seq: 7, now: "" });
    world.pass(3000);
    expect(client.state).toBe("live");
    expect(world.sockets).toHaveLength(1);
    world.pass(4000); // and it is watched over as before
    expect(socket.closed).toBe(true);
  });

  test("a probe that is not gives the connection up, with no wait", () => {
    const socket = live();
    client.probe();
    world.pass(3000);
    expect(socket.closed).toBe(true);
    world.pass(0);
    expect(world.sockets).toHaveLength(2);
  });

  test("a drain moves it within the time that it was given", () => {
    const socket = live();
    socket.say({ type: "drain", within_ms: 800 });
    world.pass(399);
    expect(client.state).toBe("live");
    world.pass(1);
    expect(socket.closed).toBe(true);
    expect(world.sockets).toHaveLength(2);
  });

  test("another token takes another connection", () => {
    const socket = live();
    client.as("other");
    world.pass(0);
    expect(socket.closed).toBe(true);
    world.socket.open();
    expect(world.socket.sent[0]).toMatchObject({ type: "hello", token: "other" });
  });

  test("stays stopped", () => {
    const socket = live();
    client.stop();
    socket.drop();
    world.pass(60_000);
    expect(world.sockets).toHaveLength(1);
    expect(client.state).toBe("stopped");
  });

  test("what is not JSON is no server of ours", () => {
    const socket = live();
    socket.onmessage?.({ data: "<html>" } as never);
    expect(socket.closed).toBe(true);
    expect(client.state).toBe("reconnecting");
  });
});

describe("claims", () => {
  const claim = { hunt: "demo", map: 5, tile: 3, claim_id: "x" };

  test("tells answers apart by id", async () => {
    const socket = live();
    const first = client.claim(claim), second = client.claim({ ...claim, tile: 4 });
    const [a, b] = socket.sent.slice(-2);
    expect(a).toEqual({ type: "claim", id: a!.id, ...claim });
    socket.say({ type: "outcome", id: b!.id, outcome: "gone" });
    socket.say({ type: "outcome", id: a!.id, outcome: "won" });
    expect(await first).toMatchObject({ outcome: "won" });
    expect(await second).toMatchObject({ outcome: "gone" });
  });

  test("an error about a claim is its answer", async () => {
    const socket = live();
    const asked = client.claim(claim);
    socket.say({ type: "error", id: socket.sent.at(-1)!.id, code: "unavailable", detail: "soon" });
    expect(await asked).toMatchObject({ code: "unavailable" });
  });

  test("is Disconnected when not live, cut off, or not answered", async () => {
    await expect(client.claim(claim)).rejects.toThrow(Disconnected);
    const socket = live();
    const cut = client.claim(claim);
    socket.drop();
    await expect(cut).rejects.toThrow(Disconnected);
    world.pass(100);
    world.socket.open();
    world.socket.say(welcome());
    world.socket.say(snapshot(9));
    const ignored = client.claim(claim);
    world.pass(500);
    await expect(ignored).rejects.toThrow(Disconnected);
  });
});

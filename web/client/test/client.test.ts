import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { Disconnected, LiveClient, type Gap, type Lost, type State } from "../src/index.js";
import { World, type FakeSocket } from "./world.js";

let world: World;
let client: LiveClient;
let states: State[];

beforeEach(() => {
  world = new World();
  client = new LiveClient({ url: "ws://here/v1/live", token: "t", WebSocket: world.WebSocket, environment: world.environment, steadyMs: 0, backoffMs: 100, backoffCapMs: 1000, silentMs: 1000, claimMs: 500 });
  states = [];
  client.on("state", (state) => states.push(state));
});

const welcome = (epoch = "e", seq = 7) => ({ type: "welcome", epoch, seq, now: "2026-01-02T03:04:05.678Z" });
const snapshot = (seq: number, regions = ["u"], hunt = "demo") => ({ type: "snapshot", hunt, seq, regions, maps: [], standings: [] });
const delta = (seq: number, region = "u", from = seq - 1) => ({ type: "delta", hunt: "demo", region, from, seq });
const demo = { type: "watch", hunt: "demo", regions: ["u"], standings: true };

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
    expect(world.socket.sent).toEqual([{ type: "hello", token: "t" }, demo, { type: "ping" }]);
    world.socket.say(welcome());
    expect(client.state).toBe("catching-up");
    world.socket.say(snapshot(7));
    expect(states).toEqual(["connecting", "catching-up", "live"]);
  });

  test("is live with nothing to watch", () => {
    client.start();
    world.socket.open();
    world.socket.say(welcome());
    expect(client.state).toBe("live");
  });

  test("is live after a pong when it resumes and missed nothing, but waits for a snapshot", () => {
    live();
    client.stop();
    client.start();
    world.socket.open();
    world.socket.say(welcome());
    expect(client.state).toBe("catching-up");
    world.socket.say({ type: "pong", seq: 7, now: "" });
    expect(client.state).toBe("live");

    client.stop();
    client.watch({ hunt: "demo", regions: ["u4"], standings: true });
    client.start();
    world.socket.open();
    world.socket.say(welcome());
    world.socket.say({ type: "pong", seq: 7, now: "" });
    world.socket.say(snapshot(7, ["u"])); // of the watch before
    expect(client.state).toBe("catching-up");
    world.socket.say(snapshot(7, ["u4"]));
    expect(client.state).toBe("live");
  });

  test("a watch that is refused is not waited for", () => {
    client.watch({ hunt: "nope", regions: ["u"], standings: true });
    client.start();
    world.socket.open();
    world.socket.say(welcome());
    world.socket.say({ type: "error", code: "unknown_hunt", detail: "hunt: there is no hunt nope" });
    expect(client.state).toBe("catching-up");
    world.socket.say({ type: "pong", seq: 7, now: "" });
    expect(client.state).toBe("live");
  });

  test("a watch replaces the one before, and an empty one ends it", () => {
    const socket = live();
    client.watch({ hunt: "demo", regions: ["u4"], standings: true });
    client.watch({ hunt: "demo", regions: ["u4", "u4"], standings: true }); // sees the same
    client.watch({ hunt: "demo", regions: [], standings: false });
    expect(socket.sent.slice(-2)).toEqual([
      { type: "watch", hunt: "demo", regions: ["u4"], standings: true },
      { type: "watch", hunt: "demo", regions: [], standings: false },
    ]);
    socket.drop();
    world.pass(100);
    world.socket.open();
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
  test("resumes from the newest sweep that it heard of", () => {
    const socket = live(7);
    socket.say(delta(8, "u"));
    socket.say(delta(9, "u"));
    socket.drop();
    expect(client.state).toBe("reconnecting");
    world.pass(100);
    world.socket.open();
    expect(world.socket.sent[0]).toEqual({ type: "hello", token: "t", epoch: "e", seq: 9 });
    world.socket.say(welcome("e", 12));
    expect(client.state).toBe("catching-up");
    world.socket.say(delta(12, "u", 9));
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
    expect(world.socket.sent[0]).toMatchObject({ epoch: "f", seq: 4 });
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

describe("what is known", () => {
  test("is told once, however often it comes", () => {
    const heard: number[] = [];
    client.on("delta", ({ seq }) => heard.push(seq));
    const socket = live(7);
    socket.say(delta(8));
    socket.say(delta(8));
    socket.drop();
    world.pass(100);
    world.socket.open();
    world.socket.say(welcome("e", 9));
    for (const seq of [7, 8, 9]) world.socket.say(delta(seq)); // the server begins a sweep early
    expect(heard).toEqual([8, 9]);
    expect(client.gaps).toBe(0);
  });

  test("with a gap, all is asked for anew", () => {
    const gaps: Gap[] = [];
    client.on("gap", (gap) => gaps.push(gap));
    const socket = live(7);
    socket.say(delta(12, "u", 9));
    expect(gaps).toEqual([{ hunt: "demo", region: "u", from: 9, known: 7 }]);
    expect(client.gaps).toBe(1);
    expect(socket.closed).toBe(true);
    world.pass(100);
    world.socket.open();
    expect(world.socket.sent[0]).toEqual({ type: "hello", token: "t" });
  });

  test("a watch that changed while disconnected is not resumed", () => {
    live(7).drop();
    client.watch({ hunt: "demo", regions: ["u4"], standings: true });
    world.pass(100);
    world.socket.open();
    expect(world.socket.sent).toEqual([{ type: "hello", token: "t" }, { ...demo, regions: ["u4"] }, { type: "ping" }]);
  });

  test("nor one whose snapshot did not come, and one that changed back is", () => {
    const socket = live(7);
    client.watch({ hunt: "demo", regions: ["u4"], standings: true });
    socket.say(delta(8)); // crossed the new watch
    socket.drop();
    world.pass(100);
    world.socket.open();
    expect(world.socket.sent[0]).toEqual({ type: "hello", token: "t" });
    client.watch({ hunt: "demo", regions: ["u"], standings: true });
    world.socket.drop();
    world.pass(200);
    world.socket.open();
    expect(world.socket.sent[0]).toEqual({ type: "hello", token: "t", epoch: "e", seq: 8 });
  });

  test("of several hunts the one resumed is watched first, with its own seq", () => {
    client.watch({ hunt: "other", regions: ["s"], standings: false });
    const socket = live(7);
    expect(client.state).toBe("catching-up");
    socket.say(delta(8));
    socket.drop(); // before other's snapshot
    world.pass(100);
    world.socket.open();
    expect(world.socket.sent).toEqual([
      { type: "hello", token: "t", epoch: "e", seq: 8 },
      demo,
      { type: "watch", hunt: "other", regions: ["s"], standings: false },
      { type: "ping" },
    ]);
    world.socket.say(welcome());
    world.socket.say({ type: "pong", seq: 8, now: "" });
    expect(client.state).toBe("catching-up");
    world.socket.say({ ...snapshot(30, ["s"], "other"), standings: undefined });
    expect(client.state).toBe("live");
    world.socket.drop();
    world.pass(200);
    world.socket.open();
    expect(world.socket.sent.slice(0, 2)).toEqual([{ type: "hello", token: "t", epoch: "e", seq: 30 }, { type: "watch", hunt: "other", regions: ["s"], standings: false }]);
  });

  test("is forgotten when the gateway begins anew on the same connection", () => {
    const heard: number[] = [];
    client.on("delta", ({ seq }) => heard.push(seq));
    const socket = live(7);
    const sent = socket.sent.length;
    socket.say(welcome("f", 2));
    expect(client.state).toBe("catching-up");
    socket.say(delta(8)); // crossed
    socket.say(snapshot(2));
    socket.say(delta(3));
    expect(heard).toEqual([3]);
    expect(client.state).toBe("live");
    expect(socket.sent).toHaveLength(sent);
    expect(client.connects).toBe(1);
  });

  test("frames that cross the end of a watch are not told", () => {
    let heard = 0;
    for (const type of ["snapshot", "delta", "standings"] as const) client.on(type, () => heard++);
    const socket = live(7);
    client.watch({ hunt: "demo", regions: [], standings: false });
    client.watch({ hunt: "demo", regions: ["u"], standings: true });
    for (const frame of [delta(8), { type: "standings", hunt: "demo", seq: 8 }]) socket.say(frame);
    expect(heard).toBe(1);
    socket.say(snapshot(9));
    expect(heard).toBe(2);
    expect(client.gaps).toBe(0);
  });

  test("a view that is asked for late gets a snapshot", () => {
    const socket = live(7);
    const view = client.view("demo");
    expect(client.view("demo")).toBe(view);
    expect(socket.sent.slice(-2)).toEqual([{ ...demo, regions: [], standings: false }, demo]);
    socket.say(snapshot(8));
    socket.say(delta(9));
    expect([...view.regions]).toEqual([["u", 9]]);
  });
});

describe("trying", () => {
  test("a refused handshake backs off as a lost connection does", () => {
    const lost: Lost[] = [];
    client.on("lost", (why) => lost.push(why));
    client.start();
    for (let i = 0; i < 5; i++) {
      world.socket.drop(); // all that a browser tells of a 503
      world.pass(1000);
    }
    expect(lost.map(({ code, waitMs }) => [code, waitMs])).toEqual([50, 100, 200, 400, 500].map((wait) => [1006, wait]));
    expect(client.state).toBe("connecting");
  });

  test("one that is cut as soon as it is live does not begin the waits again", () => {
    client = new LiveClient({ url: "ws://here/v1/live", WebSocket: world.WebSocket, environment: world.environment, steadyMs: 300, backoffMs: 100 });
    const waits: number[] = [];
    client.on("lost", ({ waitMs }) => waits.push(waitMs));
    client.start();
    for (const livedMs of [0, 299, 300, 0]) {
      world.socket.open();
      world.socket.say(welcome());
      world.pass(livedMs);
      world.socket.drop();
      world.pass(1000);
    }
    expect(waits).toEqual([50, 100, 50, 100]);
  });

  test("ends with its signal", () => {
    const ends = new AbortController();
    client = new LiveClient({ url: "ws://here/v1/live", WebSocket: world.WebSocket, environment: world.environment, signal: ends.signal });
    client.start();
    ends.abort();
    expect(world.socket.closed).toBe(true);
    client.start();
    world.pass(60_000);
    expect(world.sockets).toHaveLength(1);
    expect(client.state).toBe("stopped");
  });

  test("a listener ends with its signal, and one that fails keeps nobody from hearing", () => {
    const later: (() => void)[] = [];
    vi.stubGlobal("queueMicrotask", (call: () => void) => later.push(call));
    onTestFinished(() => void vi.unstubAllGlobals());
    const ends = new AbortController();
    let heard = 0;
    client.on("state", () => { throw new Error("mine"); }, { signal: ends.signal });
    client.on("state", () => heard++, { signal: ends.signal });
    client.start();
    expect(heard).toBe(1);
    expect(later).toHaveLength(1);
    expect(later[0]).toThrow("mine");
    ends.abort();
    client.stop();
    expect(heard).toBe(1);
  });

  test("says what it lacks", () => {
    vi.stubGlobal("WebSocket", undefined); // as Node 20 has it
    onTestFinished(() => void vi.unstubAllGlobals());
    expect(() => new LiveClient({ url: "ws://here/v1/live" })).toThrow("no global WebSocket");
    expect(() => new LiveClient({ url: "ftp://here/", WebSocket: world.WebSocket })).toThrow("want ws:");
    expect(() => new LiveClient({ url: "/v1/live", WebSocket: world.WebSocket })).toThrow(TypeError); // relative to nothing
    client = new LiveClient({ url: "https://here/v1/live#x", WebSocket: world.WebSocket });
    client.start();
    expect(world.socket.url).toBe("wss://here/v1/live");
    client.stop();
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

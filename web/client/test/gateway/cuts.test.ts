import { WebSocket as UndiciWebSocket } from "undici";
import { expect, test } from "vitest";
import { WebSocket as WsWebSocket } from "ws";
import { Disconnected, LiveClient, type HuntView, type SocketClass, type Watch } from "../../src/index.js";
import { chance } from "../model.js";

// web/e2e says where these are: the gateway behind a network that loses
// connections, players' and operators' API without one, and who calms the network.
const { CAIRN_LIVE: url, CAIRN_API: api, CAIRN_ADMIN: admin, CAIRN_CALM: calm } = process.env as Record<string, string>;
if (!url || !api || !admin || !calm) throw new Error("CAIRN_LIVE, CAIRN_API, CAIRN_ADMIN and CAIRN_CALM must be set; go test ./web/e2e -run TestClientLibrary does");

const roughMs = 15_000;
const random = chance(Number(process.env.SEED ?? 1));
const kinds: Record<string, SocketClass> = { undici: UndiciWebSocket, ws: WsWebSocket };
const fast = { backoffMs: 50, backoffCapMs: 400, silentMs: 1_000, steadyMs: 1_000, claimMs: 2_000 };

const regionsToSee = [[""], ["u4"], ["u", "u4x"], ["u4p", "u4r", "u4x", "u4z", "u4n"], ["u6", "u7", "u4"], []];

interface Watcher {
  name: string;
  client: LiveClient;
  watches: Map<string, Watch>;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function call<T>(path: string, init: RequestInit = {}): Promise<{ status: number; body: T }> {
  const response = await fetch(api + path, init);
  return { status: response.status, body: (await response.json()) as T };
}

const post = (path: string, body: object, token = "") =>
  call<Record<string, unknown>>(path, { method: "POST", headers: { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) }, body: JSON.stringify(body) });

/** What a view shows, as plain values. */
const shown = (view: HuntView) => ({
  maps: [...view.maps.values()].map((map) => ({ ...map, tiles: [...map.tiles.values()].sort((a, b) => a.index - b.index) })).sort((a, b) => a.tick - b.tick),
  boards: [...view.boards].map(({ window, hour, region, players, rows }) => ({ window, hour, region, players, rows })).sort((a, b) => (`${a.window} ${a.hour} ${a.region}` < `${b.window} ${b.hour} ${b.region}` ? -1 : 1)),
});

/** Tries until it does not throw. */
async function eventually<T>(check: () => T | Promise<T>): Promise<T> {
  const end = Date.now() + 60_000;
  for (;;) {
    try {
      return await check();
    } catch (why) {
      if (Date.now() > end) throw why;
    }
    await sleep(50);
  }
}

/** Prints what led to a gap. */
function trace({ name, client }: Watcher): void {
  const past: string[] = [];
  const note = (what: string): void => void (past.push(what) > 60 && past.shift());
  for (const type of ["snapshot", "delta", "standings"] as const) client.on(type, (frame) => note(`${type} ${frame.hunt} ${"region" in frame ? `"${frame.region}"` : frame.regions} ${"from" in frame ? frame.from : ""}-${frame.seq}`));
  client.on("state", (state) => note(state));
  client.on("lost", ({ code, reason }) => note(`lost ${code} ${reason}`));
  client.on("gap", (gap) => console.log(`${name}: gap ${JSON.stringify(gap)} after\n${past.join("\n")}`));
}

function look(watcher: Watcher, hunt: string): void {
  const regions = regionsToSee[Math.floor(random() * regionsToSee.length)]!;
  const watch = { hunt, regions, standings: random() < 0.7 || regions.length === 0 };
  watcher.watches.set(hunt, watch);
  watcher.client.watch(watch);
}

test("after cuts, stalls, resets and refusals a view shows what the server has, and nothing was missed", async () => {
  const won = new Map<string, string>(); // by hunt/map/tile, the player
  const lost = { socket: 0, other: 0 };
  const epochs = new Set<string>();
  let over = false;

  const watchers: Watcher[] = [];
  for (const [name, WebSocket] of Object.entries(kinds)) {
    for (let i = 0; i < 3; i++) {
      const watcher = { name: `${name} ${i}`, client: new LiveClient({ url, WebSocket, ...fast }), watches: new Map<string, Watch>() };
      for (const hunt of ["stay", "e2e"]) {
        if (i > 0) watcher.client.view(hunt);
        look(watcher, hunt);
        watcher.client.view(hunt); // of the first ones, asked for late
      }
      watchers.push(watcher);
      trace(watcher);
      watcher.client.on("welcome", ({ epoch }) => epochs.add(epoch));
      watcher.client.start();
    }
  }

  /** Claims what its view shows as free, over the rough socket; what it was not told it asks for. */
  const play = async (name: string, WebSocket: SocketClass): Promise<LiveClient> => {
    const { player, token } = (await post("/v1/players", { name })).body as Record<string, string>;
    const client = new LiveClient({ url, token: token!, WebSocket, ...fast });
    for (const hunt of ["e2e", "stay"]) {
      client.view(hunt);
      client.watch({ hunt, regions: [""], standings: false });
    }
    client.start();
    while (!over) {
      await sleep(60 + random() * 120);
      const hunt = random() < 0.5 ? "e2e" : "stay";
      const free = [...client.view(hunt).maps.values()].flatMap(({ tiles }) => [...tiles.values()]).filter(({ holder }) => !holder);
      const tile = free[Math.floor(random() * free.length)];
      if (!tile) continue;
      const attempt = { map: tile.map, tile: tile.index, claim_id: `${player}-${tile.map}-${tile.index}` };
      let outcome: Record<string, unknown>;
      try {
        outcome = { ...(await client.claim({ hunt, ...attempt })) };
      } catch (why) {
        if (!(why instanceof Disconnected)) throw why;
        lost.socket++;
        outcome = {};
      }
      // Asking again is safe: the holder hears the original answer. The gateway may be away.
      while (outcome.outcome === undefined || outcome.outcome === "pending") {
        outcome = await post(`/v1/hunts/${hunt}/claims`, attempt, token).then(({ body }) => body, () => ({}));
        await sleep(50);
      }
      if (outcome.outcome === "won") won.set(`${hunt}/${tile.map}/${tile.index}`, player!);
      else if (outcome.outcome === "gone") won.set(`${hunt}/${tile.map}/${tile.index}`, String(outcome.winner));
      else lost.other++;
    }
    return client;
  };
  const players = Object.entries(kinds).map(([name, WebSocket]) => play(`Player of ${name}`, WebSocket));

  const end = Date.now() + roughMs;
  // Until enough has happened, and the gateway was restarted in the midst.
  while (Date.now() < end || won.size < 20 || epochs.size < 2) {
    await sleep(300);
    if (random() < 0.3) look(watchers[Math.floor(random() * watchers.length)]!, random() < 0.5 ? "e2e" : "stay");
  }
  over = true;
  for (const client of await Promise.all(players)) {
    watchers.push({ name: "player", client, watches: new Map(["e2e", "stay"].map((hunt) => [hunt, { hunt, regions: [""], standings: false }])) });
  }
  for (const hunt of ["e2e", "stay"]) {
    const paused = await fetch(`${admin}/admin/v1/hunts/${hunt}`, { method: "PATCH", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ state: "paused" }) });
    expect(paused.status).toBe(200);
  }
  const cuts = Number(await (await fetch(calm, { method: "POST" })).text());
  console.log(`${cuts} connections lost; ${won.size} tiles claimed; ${lost.socket} claims asked again, ${lost.other} not taken; connects ${watchers.map(({ client }) => client.connects).join(" ")}`);

  for (const { name, client, watches } of watchers) {
    await eventually(() => expect({ name, state: client.state }).toEqual({ name, state: "live" }));
    for (const watch of watches.values()) {
      // Another client, straight to the gateway and never cut, has one snapshot.
      const fresh = new LiveClient({ url: api.replace("http", "ws") + "/v1/live", WebSocket: UndiciWebSocket });
      const view = fresh.view(watch.hunt);
      fresh.watch(watch);
      fresh.start();
      await eventually(() => {
        expect(fresh.state).toBe("live");
        expect({ name, watch, ...shown(client.view(watch.hunt)) }).toEqual({ name, watch, ...shown(view) });
      });
      fresh.stop();
    }
    expect({ name, gaps: client.gaps }).toEqual({ name, gaps: 0 });
  }
  expect(watchers.reduce((sum, { client }) => sum + client.connects, 0)).toBeGreaterThan(2 * watchers.length);

  // And what they show is what the API says, for the hunt whose maps stay.
  const { client } = watchers.at(-1)!;
  const stay = client.view("stay");
  expect(stay.maps.size).toBeGreaterThan(5);
  for (const map of stay.maps.values()) {
    const { body } = await call<{ opens: string; closes: string; tiles: { index: number; geohash: string; puzzle: string; reward: number }[] }>(`/v1/hunts/stay/maps/${map.tick}`);
    expect({ opens: map.opens, closes: map.closes, tiles: [...map.tiles.values()].map(({ index, geohash, puzzle, reward }) => ({ index, geohash, puzzle, reward })).sort((a, b) => a.index - b.index) })
      .toEqual({ opens: body.opens, closes: body.closes, tiles: body.tiles.map(({ index, geohash, puzzle, reward }) => ({ index, geohash, puzzle, reward })) });
    for (const tile of map.tiles.values()) expect([`stay/${map.tick}/${tile.index}`, tile.holder?.player]).toEqual([`stay/${map.tick}/${tile.index}`, won.get(`stay/${map.tick}/${tile.index}`)]);
  }
  for (const { client, watches } of watchers) {
    const watch = watches.get("stay")!;
    if (!watch.standings) continue;
    const { body } = await call<{ rows: object[] }>("/v1/hunts/stay/standings");
    expect(client.view("stay").board("hunt")?.rows).toEqual(body.rows);
    const inView = [...client.view("stay").maps.values()].flatMap(({ tiles }) => [...tiles.values()]);
    expect(inView.every(({ geohash }) => watch.regions.some((cell) => geohash.startsWith(cell)))).toBe(true);
  }
  for (const { client } of watchers) client.stop();
});

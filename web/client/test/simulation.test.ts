import { describe, expect, test } from "vitest";
import { Disconnected, HuntView, LiveClient, type SocketClass, type Watch } from "../src/index.js";
import { chance, Gateway, regionsThereAre, SimSocket, type Surroundings } from "./model.js";
import { World } from "./world.js";

const seeds = Number(process.env.SEEDS ?? 150);
const first = Number(process.env.SEED ?? 1);
const sweepMs = 50;

/** A view as plain values. */
const shown = (view: HuntView) => ({
  maps: [...view.maps.values()].map(({ tick, opens, closes, tiles }) => ({
    tick, opens, closes,
    tiles: [...tiles.values()].map(({ index, geohash, holder }) => ({ index, geohash, player: holder?.player })).sort((a, b) => a.index - b.index),
  })).sort((a, b) => a.tick - b.tick),
  board: view.board("hunt")?.rows[0]?.score,
});

/** The same, by the gateway's word. */
const there = (gateway: Gateway, { hunt: id, regions, standings }: Watch) => {
  const hunt = gateway.hunts.get(id)!;
  return {
    maps: (regions.length ? hunt.seen(regions) : []).map(({ tick, opens, closes, tiles, claimed }) => ({
      tick, opens, closes,
      tiles: tiles.map(({ index, geohash }) => ({ index, geohash, player: claimed.find(({ tile }) => tile === index)?.player })),
    })),
    board: standings ? hunt.board?.rows[0]?.score : undefined,
  };
};

/** What one simulation came to. */
function simulate(seed: number) {
  const world = new World();
  const random = chance(seed);
  let faults = 0.15 * random();
  const around: Surroundings = { random, faults: () => faults, later: (ms, call) => void world.environment.setTimeout(call, ms) };
  const gateway = new Gateway(around, () => world.ms);
  class Dialled extends SimSocket {
    constructor() {
      super(gateway, around);
    }
  }
  const client = new LiveClient({ url: "ws://here/v1/live", WebSocket: Dialled as unknown as SocketClass, environment: { ...world.environment, random }, backoffMs: 100, backoffCapMs: 1000, silentMs: 1000, steadyMs: 500, claimMs: 800 });
  const views = ["oslo", "rome"].map((hunt) => client.view(hunt));
  // A fold beside the client's, which sees what its listeners see.
  const beside = new Map(views.map(({ hunt }) => [hunt, new HuntView(hunt)]));
  let twice = 0;
  const watches = new Map<string, Watch>();
  for (const type of ["snapshot", "delta", "standings"] as const) {
    client.on(type, (frame) => {
      if (beside.get(frame.hunt)!.apply(frame) !== "news") twice++;
    });
  }
  let known = "";
  client.on("welcome", ({ epoch }) => {
    if (epoch !== known) for (const view of beside.values()) view.restart();
    known = epoch;
  });

  const look = (): void => {
    const hunt = random() < 0.7 ? "oslo" : "rome";
    const regions = regionsThereAre.filter(() => random() < 0.3);
    const watch = { hunt, regions, standings: random() < 0.5 };
    if (!regions.length && !watch.standings) {
      beside.get(hunt)!.restart();
      watches.delete(hunt);
    } else watches.set(hunt, watch);
    client.watch(watch);
  };
  let asked = 0, answered = 0, lost = 0;
  const claims: Promise<void>[] = [];
  const claim = (): void => {
    asked++;
    claims.push(client.claim({ hunt: "oslo", map: 1, tile: 1, claim_id: "x" }).then(() => void answered++, (why: unknown) => void (why instanceof Disconnected && lost++)));
  };

  look();
  client.start();
  let live = 0;
  for (let i = 0; i < 400; i++) {
    gateway.sweep(true);
    if (random() < 0.02) look();
    if (random() < 0.1) claim();
    if (random() < 0.005) client.as(`token ${i}`);
    if (random() < 0.005) client.probe();
    world.pass(sweepMs);
    if (client.state === "live") live++;
  }
  faults = 0;
  for (let i = 0; i < 400; i++) {
    gateway.sweep(false);
    world.pass(sweepMs);
  }
  return { client, gateway, views, beside, watches, claims, live, twice, counts: () => ({ asked, settled: answered + lost }), answered: () => answered };
}

describe("after any cuts, half-sent sweeps, skips, drains and new lives", () => {
  test(`a view shows what the gateway has, and nothing was missed (seeds ${first} to ${first + seeds - 1})`, async () => {
    let cuts = 0, resumed = 0, answered = 0, live = 0;
    for (let seed = first; seed < first + seeds; seed++) {
      const end = simulate(seed);
      await Promise.all(end.claims);
      const { asked, settled } = end.counts();
      expect({ seed, state: end.client.state, gaps: end.client.gaps, twice: end.twice, unsettled: asked - settled }).toEqual({ seed, state: "live", gaps: 0, twice: 0, unsettled: 0 });
      for (const view of end.views) {
        const watch = end.watches.get(view.hunt);
        if (!watch) continue;
        expect({ seed, hunt: view.hunt, ...shown(view) }).toEqual({ seed, hunt: view.hunt, ...there(end.gateway, watch) });
        expect(shown(end.beside.get(view.hunt)!)).toEqual(shown(view));
        for (const cell of watch.regions) expect(view.regions.get(cell)).toBeDefined();
      }
      end.client.stop();
      cuts += end.client.connects - 1;
      resumed += end.gateway.resumed;
      answered += end.answered();
      live += end.live;
    }
    // The seeds are worth their time.
    expect(cuts).toBeGreaterThan(2 * seeds);
    expect(resumed).toBeGreaterThan(seeds);
    expect(answered).toBeGreaterThan(5 * seeds);
    expect(live).toBeGreaterThan(50 * seeds);
  }, 60_000);
});

import { describe, expect, test } from "vitest";
import { standing, Tiles } from "../src/game/tiles";
import type { DeltaFrame, LiveMap, SnapshotFrame } from "@veltrix/cairn-client";

const at = (second: number): string => new Date(second * 1000).toISOString();

const map = (tick: number, ...geohashes: string[]): LiveMap => ({
  tick,
  opens: at(tick),
  closes: at(tick + 30),
  tiles: geohashes.map((geohash, index) => ({ index, geohash, puzzle: "tap", reward: 100 })),
});

const snapshot = (...maps: LiveMap[]): SnapshotFrame => ({ type: "snapshot", hunt: "demo", seq: 1, regions: ["u"], maps });
const delta = (change: Partial<DeltaFrame>): DeltaFrame => ({ type: "delta", hunt: "demo", region: "u", from: 1, seq: 2, ...change });
const claim = (tick: number, tile: number, player: string) => ({ map: tick, tile, player, name: player.toUpperCase(), at: at(tick + 1) });

describe("folding", () => {
  test("a snapshot replaces all, with who holds what", () => {
    const tiles = new Tiles("demo");
    tiles.replace(snapshot(map(1, "u4", "u5")));
    tiles.replace(snapshot({ ...map(2, "u6", "u7"), claimed: [claim(2, 1, "bo")] }));
    expect([...tiles.all()].map(({ key, holder }) => [key, holder?.name])).toEqual([["2/0", undefined], ["2/1", "BO"]]);
  });

  test("a delta opens, claims and closes, and hearing it twice changes nothing", () => {
    const tiles = new Tiles("demo");
    tiles.replace(snapshot(map(1, "u4")));
    const change = delta({ opened: [map(2, "u5", "u6")], claimed: [claim(2, 1, "bo")], closed: [1] });
    expect(tiles.apply(change).map(({ key }) => key)).toEqual(["2/1"]);
    expect(tiles.apply(change)).toEqual([]);
    expect([...tiles.all()].map(({ key }) => key)).toEqual(["2/0", "2/1"]);
    expect(tiles.get("2/1")?.holder).toEqual({ player: "bo", name: "BO", at: 3000 });
  });

  test("a map may be told in parts, a region each", () => {
    const tiles = new Tiles("demo");
    const whole = map(1, "u4", "v4");
    tiles.apply(delta({ opened: [{ ...whole, tiles: whole.tiles.slice(0, 1) }] }));
    tiles.apply(delta({ region: "v", opened: [{ ...whole, tiles: whole.tiles.slice(1) }] }));
    expect(tiles.size).toBe(2);
  });

  test("a claim of a tile out of view is let pass", () => {
    expect(new Tiles("demo").apply(delta({ claimed: [claim(9, 9, "bo")] }))).toEqual([]);
  });

  test("what an answer told outlives a snapshot that is older", () => {
    const tiles = new Tiles("demo");
    tiles.replace(snapshot(map(1, "u4")));
    tiles.hold("1/0", { player: "me", name: "Me", at: 2000 });
    tiles.replace(snapshot(map(1, "u4")));
    expect(tiles.get("1/0")?.holder?.player).toBe("me");
  });

  test("maps go when they close, told or not", () => {
    const tiles = new Tiles("demo");
    tiles.replace(snapshot(map(1, "u4"), map(2, "u4")));
    expect(tiles.expire(30_999)).toBe(false);
    expect(tiles.expire(31_000)).toBe(true);
    expect([...tiles.all()].map(({ tick }) => tick)).toEqual([2]);
  });
});

test("how a tile stands", () => {
  const tiles = new Tiles("demo");
  tiles.replace(snapshot(map(10, "u4")));
  const tile = tiles.get("10/0")!;
  const how = (second: number) => standing(tile, "me", second * 1000);
  expect([9.9, 10, 34.9, 35, 39.9, 40].map(how)).toEqual(["soon", "open", "open", "expiring", "expiring", "closed"]);
  tiles.hold("10/0", { player: "bo", name: "Bo", at: 0 });
  expect(how(20)).toBe("taken");
  tiles.hold("10/0", { player: "me", name: "Me", at: 0 });
  expect([how(20), how(39), how(40)]).toEqual(["mine", "mine", "closed"]);
});

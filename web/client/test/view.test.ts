import { beforeEach, describe, expect, test } from "vitest";
import { HuntView, type Change, type DeltaFrame, type LiveMap, type SnapshotFrame } from "../src/index.js";

const map = (tick: number, ...geohashes: string[]): LiveMap => ({
  tick,
  opens: new Date(tick * 1000).toISOString(),
  closes: new Date(tick * 1000 + 30_000).toISOString(),
  tiles: geohashes.map((geohash, index) => ({ index, geohash, puzzle: "tap", reward: 100 })),
});
const snapshot = (seq: number, ...maps: LiveMap[]): SnapshotFrame => ({ type: "snapshot", hunt: "demo", seq, regions: ["u", "u4", "v"], maps });
const delta = (from: number, seq: number, change: Partial<DeltaFrame> = {}): DeltaFrame => ({ type: "delta", hunt: "demo", region: "u", from, seq, ...change });
const claim = (tick: number, tile: number, player: string) => ({ map: tick, tile, player, name: player.toUpperCase(), at: "then" });
const board = (region: string, score: number) => ({ window: "hunt" as const, region, lag_ms: 0, players: 1, rows: [{ rank: 1, player: "bo", name: "Bo", score, claims: 1 }] });

let view: HuntView;
let changes: Change[];

beforeEach(() => {
  view = new HuntView("demo");
  changes = [];
  view.on("change", (change) => changes.push(change));
});

const tiles = (): [string, string | undefined][] => [...view.maps.values()].flatMap(({ tick, tiles }) => [...tiles.values()].map(({ index, holder }): [string, string | undefined] => [`${tick}/${index}`, holder?.player]));

describe("folding", () => {
  test("a snapshot replaces all, with who holds what, and makes its regions known", () => {
    view.apply(snapshot(5, map(1, "u4", "u5")));
    expect(view.apply(snapshot(6, { ...map(2, "u6", "u7"), claimed: [claim(2, 1, "bo")] }))).toBe("news");
    expect(tiles()).toEqual([["2/0", undefined], ["2/1", "bo"]]);
    expect([...view.regions]).toEqual([["u", 6], ["u4", 6], ["v", 6]]);
    expect(changes.map(({ reset }) => reset)).toEqual([true, true]);
  });

  test("a delta opens, claims and closes; heard again it is known", () => {
    view.apply(snapshot(5, map(1, "u4")));
    const change = delta(4, 6, { opened: [map(2, "u5", "u6")], claimed: [claim(2, 1, "bo"), claim(9, 9, "bo")], closed: [1] });
    expect([view.apply(change), view.apply(change), view.apply(delta(3, 5))]).toEqual(["news", "known", "known"]);
    expect(tiles()).toEqual([["2/0", undefined], ["2/1", "bo"]]);
    expect(changes.slice(1)).toMatchObject([{ reset: false, opened: [{ tick: 2 }], claimed: [{ map: 2, index: 1 }], closed: [1] }]);
  });

  test("a map may be told in parts, a region each", () => {
    view.apply(snapshot(5));
    const whole = map(1, "u4", "v4");
    view.apply(delta(5, 6, { opened: [{ ...whole, tiles: whole.tiles.slice(0, 1) }] }));
    view.apply({ ...delta(5, 6, { opened: [{ ...whole, tiles: whole.tiles.slice(1) }] }), region: "v" });
    expect(tiles()).toHaveLength(2);
    view.apply(delta(6, 7, { closed: [1] }));
    expect(tiles()).toHaveLength(0);
  });

  test("what does not follow on what is known is a gap, and is not folded", () => {
    expect(view.apply(delta(5, 6, { opened: [map(1, "u4")] }))).toBe("early");
    view.apply(snapshot(5));
    expect(view.apply(delta(6, 7, { opened: [map(1, "u4")] }))).toBe("gap");
    expect(view.apply({ ...delta(5, 7), region: "w" })).toBe("gap");
    expect(tiles()).toEqual([]);
    expect(view.apply(delta(5, 7))).toBe("news");
    view.restart();
    expect(view.apply(delta(7, 8))).toBe("early");
  });

  test("boards by what they are of, each in its newest version", () => {
    expect(view.apply({ type: "standings", hunt: "demo", seq: 4, ...board("", 1) })).toBe("early");
    view.apply({ ...snapshot(5), standings: [board("", 2), board("u", 3)] });
    view.apply({ type: "standings", hunt: "demo", seq: 6, ...board("u", 4) });
    expect([view.board("hunt"), view.board("hunt", "u"), view.board("hour")].map((x) => x?.rows[0]?.score)).toEqual([2, 4, undefined]);
    expect([...view.boards]).toHaveLength(2);
  });

  test("of the hours' boards the newest two are kept", () => {
    view.apply(snapshot(5));
    for (const [seq, hour] of ["11", "12", "13", "12"].entries()) {
      view.apply({ type: "standings", hunt: "demo", ...board("", seq), window: "hour", seq: 6 + seq, hour: `2026-01-02T${hour}:00:00.000Z` });
    }
    expect([...view.boards].map(({ hour, rows }) => [hour?.slice(11, 13), rows[0]?.score])).toEqual([["12", 3], ["13", 2]]);
  });

  test("of a watch without regions no maps are kept, since nothing closes them", () => {
    view.apply({ ...snapshot(5, map(1)), regions: [], standings: [] });
    expect(view.maps.size).toBe(0);
  });
});

describe("holding and expiring", () => {
  test("what an answer told outlives a snapshot that is older, and no longer than the map", () => {
    view.apply(snapshot(5, map(1, "u4")));
    view.hold(1, 0, { player: "me", name: "Me", at: "now" });
    view.hold(7, 0, { player: "me", name: "Me", at: "now" }); // of no open map
    view.apply(snapshot(6, map(1, "u4")));
    expect(tiles()).toEqual([["1/0", "me"]]);
    view.apply(snapshot(7));
    view.apply(snapshot(8, map(1, "u4")));
    expect(tiles()).toEqual([["1/0", undefined]]);
  });

  test("a claim that was told by an answer is no news", () => {
    view.apply(snapshot(5, map(1, "u4")));
    view.hold(1, 0, { player: "me", name: "Me", at: "now" });
    view.apply(delta(5, 6, { claimed: [claim(1, 0, "me")] }));
    expect(changes.flatMap(({ claimed }) => claimed)).toHaveLength(1);
    expect(view.tile(1, 0)?.holder?.at).toBe("then"); // the log's word
  });

  test("maps go when they close, told or not", () => {
    view.apply(snapshot(5, map(1, "u4"), map(2, "u4")));
    view.expire(30_999);
    expect(view.maps.size).toBe(2);
    view.expire(31_000);
    expect([...view.maps.keys()]).toEqual([2]);
    expect(changes.at(-1)?.closed).toEqual([1]);
  });
});

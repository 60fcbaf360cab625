import { describe, expect, test } from "vitest";
import { readVerdict, verdictOf } from "../src/api/verdict";
import { Clock } from "../src/game/clock";
import { money, span } from "../src/game/money";
import { regionOf } from "../src/game/region";
import { hueOf, press, readPrompt } from "../src/puzzles/prompt";

test("money is exact", () => {
  expect([0, 1, 10_000, 1_000_000, 1_234_567, 12_000_000_500_000].map(money)).toEqual(["¤0.00", "¤0.000001", "¤0.01", "¤1.00", "¤1.234567", "¤12,000,000.50"]);
  expect(money(-500_000)).toBe("−¤0.50");
  expect([38, 999, 1000, 1249].map(span)).toEqual(["38 ms", "999 ms", "1.0 s", "1.2 s"]);
});

describe("a verdict", () => {
  const headers = (retry?: string) => ({ headers: { get: () => retry ?? null } });

  test("of each kind", () => {
    expect(readVerdict({ outcome: "won", offset: "7/3-15/4", reward: 5 })).toEqual({ outcome: "won", offset: "7/3-15/4", reward: 5 });
    expect(readVerdict({ code: "gone", winner: "p", winner_name: "bo", margin_ms: 38 })).toEqual({ outcome: "gone", winner: "p", winner_name: "bo", margin_ms: 38 });
    expect(readVerdict({ outcome: "wrong", attempts_left: 2 })).toEqual({ outcome: "wrong", attempts_left: 2 });
    expect(readVerdict({ outcome: "pending" })).toEqual({ outcome: "pending" });
    expect(verdictOf(headers("3"), { code: "throttled" })).toEqual({ outcome: "throttled", retry_after_ms: 3000 });
  });

  test("that is none is an error with what the server said", () => {
    expect(readVerdict({ code: "unavailable", detail: "soon" })).toEqual({ outcome: "error", code: "unavailable", detail: "soon" });
    expect(readVerdict({})).toMatchObject({ outcome: "error", code: "unknown" });
  });
});

test("the clock keeps the sample that travelled fastest, for a while", () => {
  let local = 1_000_000;
  const clock = new Clock(() => local, 1000);
  expect(clock.now()).toBe(local);
  clock.heard(local + 400);
  clock.heard(local + 450);
  clock.heard(local + 380);
  clock.heard(NaN);
  expect(clock.ahead).toBe(450);
  local += 2000;
  clock.heard(local - 20);
  expect(clock.ahead).toBe(-20);
});

test("the clock is not set back by what is long past", () => {
  let local = 1_000_000;
  const clock = new Clock(() => local, 1000);
  clock.heard(local + 400);
  local += 600_000; // the page slept, and wakes to what came meanwhile
  clock.passed(local - 300_000);
  expect(clock.ahead).toBe(400);
  clock.passed(local + 3_600_000); // the machine slept, and its clock with it
  expect(clock.ahead).toBe(3_600_000);
});

describe("prompts", () => {
  test("are read, or refused", () => {
    expect(readPrompt("cipher", { letters: "acinr", first: "c" })).toEqual({ kind: "cipher", letters: "ACINR", first: "C" });
    expect(readPrompt("echo", { pads: [0, 7] })).toEqual({ kind: "echo", pads: [0, 7] });
    expect(readPrompt("tap", {})).toEqual({ kind: "tap" });
    for (const [kind, prompt] of [["cipher", {}], ["lights", { board: "01" }], ["echo", { pads: [8] }], ["odd", { rounds: [{ cells: ["red"] }] }], ["odd", null]] as const) expect(() => readPrompt(kind, prompt)).toThrow(/does not understand/);
  });

  test("a press turns a light and its neighbours, and twice is nothing", () => {
    const dark = Array<boolean>(25).fill(false);
    const lit = (board: boolean[]) => board.flatMap((on, i) => (on ? [i] : []));
    expect(lit(press(dark, 12))).toEqual([7, 11, 12, 13, 17]);
    expect(lit(press(dark, 0))).toEqual([0, 1, 5]);
    expect(lit(press(dark, 9))).toEqual([4, 8, 9, 14]);
    expect(press(press(dark, 9), 9)).toEqual(dark);
  });

  test("hues", () => {
    expect(["#ff0000", "#00ff00", "#0000ff", "#808080", "#ff00ff"].map(hueOf)).toEqual([0, 120, 240, 0, 300]);
  });
});

test("where a hunt lies", () => {
  const hunt = { id: "h", name: "h", state: "live" } as const;
  expect(regionOf({ ...hunt, region: { bbox: [1, 2, 3, 4] } })).toEqual({ west: 1, south: 2, east: 3, north: 4 });
  expect(regionOf({ ...hunt, region: { geohash: "u" } })).toEqual({ west: 0, south: 45, east: 45, north: 90 });
  const polygon = { type: "Feature", geometry: { type: "Polygon", coordinates: [[[5, 58], [12, 58], [12, 63], [5, 58]]] } };
  expect(regionOf({ ...hunt, region: { geojson: polygon } })).toEqual({ west: 5, south: 58, east: 12, north: 63 });
  expect(regionOf({ ...hunt, region: { geohash: "" } }).west).toBe(-170); // the world, without its empty edges
});

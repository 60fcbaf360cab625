import { describe, expect, test } from "vitest";
import { cover, decode, encode, overlap, wrap } from "../src/geo/geohash";

describe("geohash", () => {
  test("decodes what the reference implementation does", () => {
    // ezs42 is the example of the format's own description.
    const box = decode("ezs42");
    expect(box.west).toBeCloseTo(-5.625, 6);
    expect(box.east).toBeCloseTo(-5.581, 3);
    expect(box.south).toBeCloseTo(42.583, 3);
    expect(box.north).toBeCloseTo(42.627, 3);
    expect(decode("")).toEqual({ west: -180, south: -90, east: 180, north: 90 });
    expect(() => decode("a")).toThrow(/not one of/);
  });

  test("encode and decode agree", () => {
    for (const [lon, lat] of [[10.75, 59.91], [-179.9, -60], [179.9, 80], [0, 0]] as const) {
      for (let letters = 1; letters <= 9; letters++) {
        const box = decode(encode(lon, lat, letters));
        expect(box.west <= lon && lon <= box.east && box.south <= lat && lat <= box.north).toBe(true);
      }
    }
    expect(encode(10.40744, 57.64911, 11)).toBe("u4pruydqqvj");
  });
});

describe("cover", () => {
  const covers = (view: { west: number; south: number; east: number; north: number }, cells: string[]) => {
    for (let x = 0.01; x < 1; x += 0.07)
      for (let y = 0.01; y < 1; y += 0.07) {
        const width = view.west <= view.east ? view.east - view.west : view.east + 360 - view.west;
        const point = encode(wrap(view.west + x * width), view.south + y * (view.north - view.south), 9);
        expect(cells.some((cell) => point.startsWith(cell))).toBe(true);
      }
  };

  test("covers the view within its bound", () => {
    for (const view of [
      { west: 10, south: 59, east: 11, north: 60 },
      { west: -180, south: -85, east: 180, north: 85 },
      { west: 170, south: -50, east: -170, north: -30 },
      { west: 10.701, south: 59.901, east: 10.702, north: 59.902 },
    ]) {
      const cells = cover(view, 32, 5);
      expect(cells.length).toBeGreaterThan(0);
      expect(cells.length).toBeLessThanOrEqual(32);
      covers(view, cells);
    }
  });

  test("is as fine as allowed, and no finer", () => {
    expect(cover({ west: 10.701, south: 59.901, east: 10.702, north: 59.902 }, 32, 4)).toEqual(["u4xs"]);
    expect(cover({ west: -180, south: -90, east: 180, north: 90 }, 32, 4)).toEqual([""]);
  });
});

test("boxes overlap across ±180°", () => {
  const pacific = { west: 170, south: -10, east: -170, north: 10 };
  expect(overlap(pacific, { west: 175, south: 0, east: 179, north: 5 })).toBe(true);
  expect(overlap(pacific, { west: -179, south: 0, east: -175, north: 5 })).toBe(true);
  expect(overlap(pacific, { west: 0, south: 0, east: 10, north: 5 })).toBe(false);
  expect(overlap({ west: 0, south: 0, east: 1, north: 1 }, { west: 1, south: 0, east: 2, north: 1 })).toBe(false);
});

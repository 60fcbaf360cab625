import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { Tiles } from "../src/game/tiles";
import { unpackLand } from "../src/map/land";
import { boxOf, fit, frameAt, latAt, lonAt, mercatorX, mercatorY, screenX } from "../src/map/mercator";
import { hit, markerSize, place, type Scene } from "../src/map/painter";

describe("mercator", () => {
  test("there and back", () => {
    for (const [lon, lat] of [[0, 0], [10.75, 59.91], [-179, -80], [179, 80]] as const) {
      expect(lonAt(mercatorX(lon))).toBeCloseTo(lon, 9);
      expect(latAt(mercatorY(lat))).toBeCloseTo(lat, 9);
    }
  });

  test("a box that is fitted shows whole, also across ±180°", () => {
    for (const box of [
      { west: 5, south: 58, east: 12, north: 63 },
      { west: 170, south: -20, east: -170, north: 0 },
    ])
      for (const [width, height] of [[360, 740], [1440, 900]] as const) {
        const { lon, lat, world } = fit(box, width, height);
        const view = boxOf(frameAt(lon, lat, world, width, height));
        expect(view.south).toBeLessThan(box.south);
        expect(view.north).toBeGreaterThan(box.north);
        const east = (a: number, b: number): number => (((b - a) % 360) + 360) % 360; // degrees from a to b
        expect(east(view.west, box.west) + east(box.west, box.east)).toBeLessThanOrEqual(east(view.west, view.east));
      }
  });

  test("things show where they are, or in the copy of the world that is on the screen", () => {
    const frame = frameAt(179, 0, 1000, 400, 400);
    expect(screenX(frame, mercatorX(179), 0)).toBeCloseTo(200, 6);
    expect(screenX(frame, mercatorX(-179), 0)).toBeCloseTo(200 + 2000 / 360, 6);
    expect(screenX(frame, frame.left / 1000 - 0.01, 20)).toBeCloseTo(-10, 6); // partly off the left edge
  });
});

describe("a tap", () => {
  const now = Date.UTC(2026, 0, 2);
  const tiles = new Tiles("demo");
  const opens = new Date(now - 1000).toISOString(), closes = new Date(now + 20_000).toISOString();
  // Two cells of about 1.2 km, some 111 km apart on the equator.
  tiles.replace({ type: "snapshot", hunt: "demo", seq: 1, regions: [""], maps: [{ tick: 1, opens, closes, tiles: [{ index: 0, geohash: "s00000", puzzle: "tap", reward: 1 }, { index: 1, geohash: "s0020n", puzzle: "echo", reward: 1 }] }] });
  const scene: Scene = { tiles: [...tiles.all()], player: "me", now, clock: 0, pulses: [], selected: undefined, hovered: undefined, calm: false, shown: () => true };
  const frame = frameAt(0, 0, 4096, 360, 740);
  const [a, b] = place(scene, frame);

  test("means the tile under the thumb, up to 24 pixels off", () => {
    expect(hit(place(scene, frame), a!.x, a!.y)?.key).toBe(a!.tile.key);
    const edge = a!.y + a!.h / 2;
    expect(hit(place(scene, frame), a!.x, edge + 23)?.key).toBe(a!.tile.key);
    expect(hit(place(scene, frame), a!.x, edge + 25)).toBeUndefined();
  });

  test("prefers what can be claimed", () => {
    const between = (a!.x + b!.x) / 2;
    a!.tile.holder = { player: "bo", name: "Bo", at: now };
    expect(hit(place(scene, frame), between - 1, a!.y)?.key).toBe(b!.tile.key);
    a!.tile.holder = undefined;
    expect(hit(place(scene, frame), between - 2, a!.y)?.key).toBe(a!.tile.key);
  });

  test("never means a kind that is hidden", () => {
    expect(hit(place({ ...scene, shown: (kind) => kind !== "tap" }, frame), a!.x, a!.y)?.kind).not.toBe("tap");
  });

  test("markers stay between 4 and 18 pixels", () => {
    expect(markerSize(frame, 1)).toBe(18);
    expect(markerSize(frame, 1_000_000)).toBe(4);
    expect(markerSize(frame, 400)).toBeGreaterThan(8);
  });
});

describe.each(["coarse", "fine"])("%s land", (which) => {
  const land = unpackLand(readFileSync(new URL(`../src/map/land/${which}.land`, import.meta.url)));

  const inside = (lon: number, lat: number): boolean =>
    land.polygons.coordinates.some((rings) => rings.reduce((odd, ring) => ring.reduce((in_, [x1, y1], i) => {
      const [x2, y2] = ring[(i + 1) % ring.length]!;
      return y1! > lat !== y2! > lat && lon < ((x2! - x1!) * (lat - y1!)) / (y2! - y1!) + x1! ? !in_ : in_;
    }, odd), false));

  test("is where it is", () => {
    for (const [name, lon, lat] of [["Oslo", 10.75, 59.95], ["Nairobi", 36.8, -1.3], ["Gotland", 18.5, 57.5], ["Tasmania", 146.5, -42], ["Alice Springs", 133.9, -23.7], ["Chukotka, west of 180°", 178, 67], ["Chukotka, east of it", -176, 66.5], ["Antarctica", 0, -80]] as const) expect(inside(lon, lat), name).toBe(true);
    for (const [name, lon, lat] of [["Atlantic", -30, 30], ["Pacific", -150, 0], ["Indian Ocean", 80, -30], ["Caspian Sea", 51, 41.5]] as const) expect(inside(lon, lat), name).toBe(false);
  });

  test("has no line along ±180°, and no streak across the world", () => {
    for (const line of land.coast.coordinates)
      line.slice(1).forEach(([x, y], i) => {
        const [before, above] = line[i]!;
        const streak = Math.abs(x! - before!) > 90;
        const seam = Math.abs(x!) > 179.99 && Math.abs(before!) > 179.99 && Math.abs(y! - above!) > 1;
        if (streak || seam) throw new Error(`from ${before},${above} to ${x},${y}`);
      });
  });
});

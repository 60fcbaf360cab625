import type { MultiLineString, MultiPolygon, Position } from "geojson";

const steps = 400; // as scripts/land.mjs packs it

/** Land as polygons, and its coast without the seam at ±180°. */
export interface Land {
  polygons: MultiPolygon;
  coast: MultiLineString;
}

/** Unpacks what scripts/land.mjs packed. */
export function unpackLand(bytes: Uint8Array): Land {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++] ?? 0;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  const zigzag = (): number => {
    const value = varint();
    return value % 2 ? -(value + 1) / 2 : value / 2;
  };
  const polygons: Position[][][] = [];
  const coast: Position[][] = [];
  while (at < bytes.length) {
    const head = varint();
    const ring: Position[] = [];
    for (let i = 0, x = 0, y = 0; i < head >> 1; i++) {
      x += zigzag();
      y += zigzag();
      ring.push([x / steps, y / steps]);
    }
    if (head & 1) polygons.push([ring]);
    else polygons.at(-1)?.push(ring);
    coast.push(...withoutSeam(ring));
  }
  return {
    polygons: { type: "MultiPolygon", coordinates: polygons },
    coast: { type: "MultiLineString", coordinates: coast },
  };
}

const onSeam = (p: Position): boolean => Math.abs(p[0]!) >= 179.99 || p[1]! <= -89.9;

/** Cuts a ring where it runs along the antimeridian or the pole. */
function withoutSeam(ring: Position[]): Position[][] {
  const lines: Position[][] = [];
  let line: Position[] = [];
  ring.forEach((p, i) => {
    const before = ring[i - 1];
    if (before && onSeam(before) && onSeam(p)) {
      if (line.length > 1) lines.push(line);
      line = [];
    }
    line.push(p);
  });
  if (line.length > 1) lines.push(line);
  return lines;
}

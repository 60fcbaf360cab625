/** A box in degrees; west > east crosses ±180°. */
export interface Box {
  west: number;
  south: number;
  east: number;
  north: number;
}

const alphabet = "0123456789bcdefghjkmnpqrstuvwxyz";
const values = new Map([...alphabet].map((letter, value) => [letter, value]));

/** The cell that a geohash names; "" is the world. */
export function decode(geohash: string): Box {
  let west = -180, east = 180, south = -90, north = 90;
  let even = true;
  for (const letter of geohash) {
    const value = values.get(letter);
    if (value === undefined) throw new Error(`geohash ${geohash}: ${letter} is not one of ${alphabet}`);
    for (let bit = 16; bit > 0; bit >>= 1) {
      if (even) {
        const middle = (west + east) / 2;
        if (value & bit) west = middle;
        else east = middle;
      } else {
        const middle = (south + north) / 2;
        if (value & bit) south = middle;
        else north = middle;
      }
      even = !even;
    }
  }
  return { west, south, east, north };
}

/** The geohash of that many letters that a point lies in. */
export function encode(lon: number, lat: number, letters: number): string {
  let west = -180, east = 180, south = -90, north = 90;
  let geohash = "";
  let even = true;
  while (geohash.length < letters) {
    let value = 0;
    for (let bit = 0; bit < 5; bit++, even = !even) {
      value <<= 1;
      if (even) {
        const middle = (west + east) / 2;
        if (lon >= middle) (value |= 1), (west = middle);
        else east = middle;
      } else {
        const middle = (south + north) / 2;
        if (lat >= middle) (value |= 1), (south = middle);
        else north = middle;
      }
    }
    geohash += alphabet[value];
  }
  return geohash;
}

/** Whether two boxes share an area; both may cross ±180°. */
export function overlap(a: Box, b: Box): boolean {
  if (a.south >= b.north || b.south >= a.north) return false;
  const spans = (box: Box): [number, number][] =>
    box.west <= box.east ? [[box.west, box.east]] : [[box.west, 180], [-180, box.east]];
  return spans(a).some(([aw, ae]) => spans(b).some(([bw, be]) => aw < be && bw < ae));
}

/**
 * The longest geohashes, at most `most` of them and of at most `lettersMax`
 * letters, that together cover a view. They are sorted, so that two views that
 * need the same ones give the same text.
 *
 * It descends from the world a letter at a time and keeps the last generation
 * that still fits, so its work is bounded by 32 × most cells a letter.
 */
export function cover(view: Box, most: number, lettersMax: number): string[] {
  let cells = [""];
  for (let letters = 1; letters <= lettersMax; letters++) {
    const finer = cells.flatMap((cell) => [...alphabet].map((letter) => cell + letter)).filter((cell) => overlap(decode(cell), view));
    if (finer.length > most || finer.length === 0) break;
    if (finer.length === 32 * cells.length) break; // nothing was left out: the coarser ones say the same
    cells = finer;
  }
  return cells.sort();
}

/** Brings any longitude into [-180, 180]. */
export function wrap(lon: number): number {
  return lon >= -180 && lon <= 180 ? lon : ((((lon + 180) % 360) + 360) % 360) - 180;
}

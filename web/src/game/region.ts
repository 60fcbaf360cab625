import type { Hunt } from "../api/types";
import { decode, type Box } from "../geo/geohash";

const world: Box = { west: -170, south: -56, east: 180, north: 74 };

/** The box around where a hunt's tiles lie. */
export function regionOf(hunt: Hunt): Box {
  const { geohash, bbox, geojson } = hunt.region ?? {};
  if (geohash) return decode(geohash);
  if (bbox) {
    const [west, south, east, north] = bbox;
    const wide = (west <= east ? east - west : east + 360 - west) > 340;
    return wide ? world : { west, south: Math.max(south, world.south), east, north: Math.min(north, 84) };
  }
  return boundsOf(geojson) ?? world;
}

/** The bounds of whatever positions GeoJSON holds. */
function boundsOf(geojson: unknown): Box | undefined {
  let west = Infinity, south = Infinity, east = -Infinity, north = -Infinity;
  const walk = (value: unknown): void => {
    if (Array.isArray(value)) {
      const [lon, lat] = value as unknown[];
      if (typeof lon === "number" && typeof lat === "number") {
        [west, east] = [Math.min(west, lon), Math.max(east, lon)];
        [south, north] = [Math.min(south, lat), Math.max(north, lat)];
      } else value.forEach(walk);
    } else if (value && typeof value === "object") {
      const { coordinates, geometry } = value as { coordinates?: unknown; geometry?: unknown };
      walk(coordinates ?? geometry);
    }
  };
  walk(geojson);
  return west < east && south < north ? { west, south, east, north } : undefined;
}

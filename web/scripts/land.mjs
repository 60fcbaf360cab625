// Packs Natural Earth's land (public domain, from npm world-atlas) into
// src/map/land/{coarse,fine}.land, which src/map/land.ts unpacks.
//
// world-atlas is stitched across ±180°; projecting it with an equirectangular
// projection cuts it at the antimeridian again, so that nothing streaks. South
// is up in what comes out: with reflectY it would not be, but geoProject would
// then take holes for islands and islands for holes, as it goes by winding.
//
// Packed: rings one after the other, each as varints: the number of points × 2
// (+ 1 if it begins a polygon, else it is a hole of the one before), then each
// point as zigzag differences of longitude and latitude in steps of 1/STEPS °.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { geoArea, geoEquirectangular } from "d3-geo";
import { geoProject } from "d3-geo-projection";
import { feature } from "topojson-client";

const STEPS = 400;
const atlas = new URL("../node_modules/world-atlas/", import.meta.url);
const out = new URL("../src/map/land/", import.meta.url);

function polygons(resolution) {
  const topology = JSON.parse(readFileSync(new URL(`land-${resolution}.json`, atlas), "utf8"));
  const plate = geoEquirectangular().scale(180 / Math.PI).translate([0, 0]).precision(0);
  const land = feature(topology, topology.objects.land);
  for (const { geometry } of land.features) geometry.coordinates = geometry.coordinates.filter(isIsland);
  const flat = geoProject(land, plate);
  return flat.features.flatMap(({ geometry: g }) => (g.type === "Polygon" ? [g.coordinates] : g.coordinates));
}

// world-atlas is rounded to some 400 m: islets that it made a line of, or turned
// inside out, so that they are the whole Earth but themselves, are left out.
function isIsland(coordinates) {
  const area = geoArea({ type: "Polygon", coordinates });
  return area > 1e-12 && area < 2 * Math.PI;
}

function pack(polys) {
  const bytes = [];
  const varint = (v) => {
    for (; v > 127; v = Math.floor(v / 128)) bytes.push((v & 127) | 128);
    bytes.push(v);
  };
  const zigzag = (v) => varint(v < 0 ? -2 * v - 1 : 2 * v);
  for (const rings of polys) {
    rings.forEach((ring, hole) => {
      const points = ring
        .map(([lon, south]) => [Math.round(lon * STEPS), Math.round(-south * STEPS)])
        .filter((p, i, all) => i === 0 || p[0] !== all[i - 1][0] || p[1] !== all[i - 1][1]);
      if (points.length < 4) return;
      varint(points.length * 2 + (hole === 0 ? 1 : 0));
      let x = 0, y = 0;
      for (const [lon, lat] of points) {
        zigzag(lon - x), zigzag(lat - y);
        (x = lon), (y = lat);
      }
    });
  }
  return Uint8Array.from(bytes);
}

mkdirSync(out, { recursive: true });
for (const [name, resolution] of [["coarse", "50m"], ["fine", "10m"]]) {
  writeFileSync(new URL(`${name}.land`, out), pack(polygons(resolution)));
}

import { Map as MapLibre, setWorkerUrl, type GeoJSONSource, type StyleSpecification } from "maplibre-gl";
import workerUrl from "maplibre-gl/dist/maplibre-gl-worker.mjs?worker&url";
import "./maplibre.css";
import type { Theme } from "../game/theme.svelte";
import type { Box } from "../geo/geohash";
import { loadLand } from "./atlas";
import type { Land } from "./land";
import { fit, frameAt, type Frame } from "./mercator";
import { inks, worldMax, worldMin, type Surface, type SurfaceEvents } from "./surface";

setWorkerUrl(workerUrl);

const tile = 512; // pixels that the world takes at MapLibre's zoom 0
const fineFrom = 4.5; // the zoom from which the fine coast is worth its bytes

const empty = { type: "FeatureCollection" as const, features: [] };

function style(theme: Theme): StyleSpecification {
  const ink = inks[theme];
  const halo = (id: string, color: string, width: number, blur: number) => ({
    id,
    type: "line" as const,
    source: "coast",
    layout: { "line-join": "round" as const },
    paint: {
      "line-color": color,
      "line-width": ["interpolate", ["exponential", 1.4], ["zoom"], 0, width * 0.35, 4, width, 12, width * 4] as unknown as number,
      "line-blur": blur,
    },
  });
  return {
    version: 8,
    sources: {
      land: { type: "geojson", data: empty, tolerance: 0.3, buffer: 64 },
      coast: { type: "geojson", data: empty, tolerance: 0.3, buffer: 128 },
    },
    layers: [
      { id: "sea", type: "background", paint: { "background-color": ink.sea } },
      halo("shoal", ink.shoal, 34, 3),
      halo("shallows", ink.shallows, 15, 1),
      { id: "land", type: "fill", source: "land", paint: { "fill-color": ink.land, "fill-antialias": false } },
      {
        id: "coastline",
        type: "line",
        source: "coast",
        layout: { "line-join": "round" },
        paint: { "line-color": ink.coast, "line-width": ["interpolate", ["linear"], ["zoom"], 0, 0.6, 6, 1.1, 12, 1.6] },
      },
    ],
  };
}

/** A surface drawn by MapLibre. */
export class MapLibreSurface implements Surface {
  readonly #map: MapLibre;
  #theme: Theme;
  #land: Land | undefined;
  #fine = false;

  constructor(container: HTMLElement, events: SurfaceEvents, theme: Theme) {
    this.#theme = theme;
    const map = new MapLibre({
      container,
      style: style(theme),
      center: [10, 30],
      zoom: 1,
      minZoom: Math.log2(worldMin / tile),
      maxZoom: Math.log2(worldMax / tile),
      maxPitch: 0,
      dragRotate: false,
      pitchWithRotate: false,
      attributionControl: false,
      fadeDuration: 0,
      keyboard: true,
    });
    map.touchZoomRotate.disableRotation();
    map.keyboard.disableRotation();
    map.on("move", () => events.moved());
    map.on("resize", () => events.moved());
    map.on("click", (event) => events.tapped(event.point.x, event.point.y));
    map.on("idle", () => events.settled());
    map.on("zoomend", () => void this.#sharpen());
    map.on("style.load", () => this.#draw());
    this.#map = map;
    void loadLand("coarse").then((land) => this.#show(land));
  }

  #show(land: Land): void {
    this.#land = land;
    this.#draw();
    void this.#sharpen();
  }

  #draw(): void {
    const { polygons, coast } = this.#land ?? {};
    if (!polygons || !coast) return;
    this.#map.getSource<GeoJSONSource>("land")?.setData(polygons);
    this.#map.getSource<GeoJSONSource>("coast")?.setData(coast);
  }

  async #sharpen(): Promise<void> {
    if (this.#fine || !this.#land || this.#map.getZoom() < fineFrom) return;
    this.#fine = true;
    this.#land = await loadLand("fine");
    this.#draw();
  }

  frame(): Frame {
    const { lng, lat } = this.#map.getCenter();
    const { clientWidth, clientHeight } = this.#map.getContainer();
    return frameAt(lng, lat, tile * 2 ** this.#map.getZoom(), clientWidth, clientHeight);
  }

  fit(box: Box, gently: boolean): void {
    const { clientWidth, clientHeight } = this.#map.getContainer();
    const to = fit(box, clientWidth, clientHeight);
    const zoom = Math.log2(Math.max(worldMin, Math.min(worldMax, to.world)) / tile);
    this.#map[gently ? "flyTo" : "jumpTo"]({ center: [to.lon, to.lat], zoom });
  }

  zoom(steps: number): void {
    this.#map.zoomTo(this.#map.getZoom() + steps);
  }

  dress(theme: Theme): void {
    if (theme === this.#theme) return;
    this.#theme = theme;
    this.#map.setStyle(style(theme), { diff: false }); // style.load draws the land again
  }

  destroy(): void {
    this.#map.remove();
  }
}

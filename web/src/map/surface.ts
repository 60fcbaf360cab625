import type { Box } from "../geo/geohash";
import type { Theme } from "../game/theme.svelte";
import type { Frame } from "./mercator";

/** What lies under the tiles: sea, land, and the hand that moves them. */
export interface Surface {
  /** What is on the screen now. */
  frame(): Frame;
  /** Shows all of a box, at once or gently. */
  fit(box: Box, gently: boolean): void;
  /** One step in (+1) or out (−1). */
  zoom(steps: number): void;
  /** Repaints in day's or night's colours. */
  dress(theme: Theme): void;
  destroy(): void;
}

/** What a surface tells whoever made it. */
export interface SurfaceEvents {
  /** The frame changed; called as often as the screen is drawn. */
  moved(): void;
  /** A click or tap that was not a drag, in CSS pixels. */
  tapped(x: number, y: number): void;
  /** All there is to draw is drawn. */
  settled(): void;
}

/** Colours of the chart's ground, by theme. */
export interface Inks {
  sea: string;
  shoal: string;
  shallows: string;
  land: string;
  coast: string;
}

export const inks: Record<Theme, Inks> = {
  light: { sea: "#eef4f3", shoal: "#dcebee", shallows: "#c5dfe8", land: "#efe4c4", coast: "#9a8658" },
  dark: { sea: "#0b141c", shoal: "#0f1d28", shallows: "#142a38", land: "#2a2820", coast: "#7d704d" },
};

/** How far one may zoom: the width of the world in pixels. */
export const worldMin = 256;
export const worldMax = 512 * 2 ** 16;

/** Whether this browser can draw with WebGL 2, which MapLibre needs. */
export function hasWebGL(): boolean {
  try {
    return document.createElement("canvas").getContext("webgl2") !== null;
  } catch {
    return false;
  }
}

import type { PuzzleKind } from "../api/types";
import type { Theme } from "../game/theme.svelte";

/** Inks of the tiles, by theme. */
export interface Palette {
  kinds: Record<PuzzleKind, string>;
  mine: string;
  mineEdge: string;
  taken: string;
  edge: string; // around a marker, so that it stands off the ground
  glyph: string; // on a marker
  line: string; // graticule and frame
  label: string;
  paper: string; // the frame's light parts
}

export const palettes: Record<Theme, Palette> = {
  light: {
    kinds: { tap: "#c8452f", cipher: "#1f6fb2", lights: "#b87a00", echo: "#7a4bb3", odd: "#12806a" },
    mine: "#f2b705",
    mineEdge: "#3b2c05",
    taken: "#8b8678",
    edge: "#fffdf6",
    glyph: "#fffdf6",
    line: "#5d7480",
    label: "#40525c",
    paper: "#fbf8ef",
  },
  dark: {
    kinds: { tap: "#ff7a61", cipher: "#5db4f5", lights: "#f3bd4e", echo: "#b592f0", odd: "#48cfae" },
    mine: "#ffd34d",
    mineEdge: "#fff3c4",
    taken: "#6d7276",
    edge: "#0b141c",
    glyph: "#0b141c",
    line: "#5f7885",
    label: "#93a7b0",
    paper: "#16222c",
  },
};

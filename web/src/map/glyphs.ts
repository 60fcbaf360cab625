import type { PuzzleKind } from "../api/types";

/**
 * Draws the sign of a puzzle kind, or of one's own tile, into a square of
 * `size` pixels around (x, y). Kinds differ in form, not in colour alone.
 */
export function glyph(pen: CanvasRenderingContext2D, what: PuzzleKind | "mine", x: number, y: number, size: number, ink: string): void {
  pen.save();
  pen.translate(x, y);
  pen.scale(size / 24, size / 24);
  pen.fillStyle = ink;
  pen.strokeStyle = ink;
  pen.lineWidth = 2.6;
  pen.lineCap = "round";
  pen.lineJoin = "round";
  const { fill, stroke } = pathsOf(what);
  if (fill) pen.fill(fill);
  if (stroke) pen.stroke(stroke);
  pen.restore();
}

/** The signs as SVG paths in a 24 × 24 square around the origin; Sign.svelte shows the same. */
export const signs: Record<PuzzleKind | "mine", { fill?: string; stroke?: string }> = {
  tap: { fill: "M0-5a5 5 0 1 0 .01 0Z", stroke: "M0-10.5a10.5 10.5 0 1 0 .01 0" },
  cipher: { stroke: "M-8 9 0-10 8 9M-5 3H5" },
  lights: { stroke: "M0-4a4 4 0 1 0 .01 0M0-11v2M0 9v2M-11 0h2M9 0h2M-7.8-7.8l1.4 1.4M6.4 6.4l1.4 1.4M-7.8 7.8l1.4-1.4M6.4-6.4l1.4-1.4" },
  echo: { fill: "M-8-2.4a2.4 2.4 0 1 0 .01 0Z", stroke: "M-2-6a8.5 8.5 0 0 1 0 12M4-10a14 14 0 0 1 0 20" },
  odd: { fill: "M4 4h6v6h-6Z", stroke: "M-10-10h6v6h-6ZM4-10h6v6h-6ZM-10 4h6v6h-6Z" },
  mine: { fill: "M-11 9.5q0-4.5 5-4.8 12-1 16 .6 2 1.2 1.6 4.2Q0 12.500-11 9.500ZM-7.500 3.200q-.8-4 4-4.400 8-.9 10.500.8 1.800 1.800.3 3.800-7 1.600-14.800-.2ZM-4-2.600q-1.400-4.600 2.600-6.600 5-1.400 6.600 2 .9 3-1 4.600-4 1-8.200 0Z" },
};

interface Paths {
  fill: Path2D | undefined;
  stroke: Path2D | undefined;
}

const made = new Map<PuzzleKind | "mine", Paths>();

function pathsOf(what: PuzzleKind | "mine"): Paths {
  let paths = made.get(what);
  if (!paths) {
    const { fill, stroke } = signs[what];
    paths = { fill: fill ? new Path2D(fill) : undefined, stroke: stroke ? new Path2D(stroke) : undefined };
    made.set(what, paths);
  }
  return paths;
}

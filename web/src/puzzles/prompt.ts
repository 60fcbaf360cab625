import type { PuzzleKind } from "../api/types";

/** What the server asks, by kind (docs/puzzles.md). */
export type Prompt =
  | { kind: "tap" }
  | { kind: "cipher"; letters: string; first: string }
  | { kind: "lights"; board: boolean[] }
  | { kind: "echo"; pads: number[] }
  | { kind: "odd"; rounds: string[][] };

/** Reads a prompt, or says what is wrong with it. */
export function readPrompt(kind: PuzzleKind, prompt: unknown): Prompt {
  const p = (prompt ?? {}) as Record<string, unknown>;
  const wrong = (): Error => new Error(`This page does not understand the server's ${kind} puzzle. Reload it.`);
  switch (kind) {
    case "tap":
      return { kind };
    case "cipher":
      if (typeof p.letters !== "string" || typeof p.first !== "string") throw wrong();
      return { kind, letters: p.letters.toUpperCase(), first: p.first.toUpperCase() };
    case "lights":
      if (typeof p.board !== "string" || !/^[01]{25}$/.test(p.board)) throw wrong();
      return { kind, board: [...p.board].map((light) => light === "1") };
    case "echo":
      if (!Array.isArray(p.pads) || !p.pads.every((pad) => Number.isInteger(pad) && pad >= 0 && pad < 8)) throw wrong();
      return { kind, pads: p.pads as number[] };
    case "odd": {
      const rounds = Array.isArray(p.rounds) ? p.rounds.map((round: { cells?: unknown }) => round?.cells) : [];
      const colours = (cells: unknown): boolean => Array.isArray(cells) && cells.length === 64 && cells.every((c) => /^#[0-9a-f]{6}$/.test(String(c)));
      if (rounds.length === 0 || !rounds.every(colours)) throw wrong();
      return { kind, rounds: rounds as string[][] };
    }
  }
}

/** The lights of a 5×5 board after a press: it and its neighbours toggle. */
export function press(board: boolean[], at: number): boolean[] {
  const row = Math.floor(at / 5), column = at % 5;
  return board.map((lit, i) => {
    const near = Math.abs(Math.floor(i / 5) - row) + Math.abs((i % 5) - column) <= 1;
    return near ? !lit : lit;
  });
}

/** The hue of "#rrggbb" in degrees, so that a label can tell what an eye sees. */
export function hueOf(colour: string): number {
  const value = parseInt(colour.slice(1), 16);
  const [r, g, b] = [value >> 16, (value >> 8) & 255, value & 255];
  const most = Math.max(r, g, b), spread = most - Math.min(r, g, b);
  if (spread === 0) return 0;
  const sector = most === r ? (g - b) / spread : most === g ? 2 + (b - r) / spread : 4 + (r - g) / spread;
  return Math.round((sector * 60 + 360) % 360);
}

import type { PuzzleKind } from "../api/types";
import { expiringMs, standing, type Standing, type TileView } from "../game/tiles";
import { band } from "./chart";
import { glyph } from "./glyphs";
import { screenX, screenY, type Frame } from "./mercator";
import type { Palette } from "./palette";

/** A ring that spreads from a tile that was just claimed. */
export interface Pulse {
  tile: TileView;
  from: number; // milliseconds of the animation's clock
  mine: boolean;
}

export const pulseMs = 1_100;
const glyphFrom = 15; // pixels across from which a marker carries its kind's sign
const cellFrom = 20; // pixels across from which a tile shows as its own cell

/** What there is to paint. */
export interface Scene {
  tiles: Iterable<TileView>;
  player: string | undefined;
  now: number; // of the server
  clock: number; // of the animation
  pulses: Pulse[];
  selected: string | undefined; // geohash of the tile whose puzzle is open
  hovered: string | undefined; // geohash
  calm: boolean; // the player asked for less motion
  shown: (kind: PuzzleKind) => boolean;
}

/** A cell on the screen, with the tiles that open maps have there; its box is at least as large as a marker. */
export interface Placed {
  tile: TileView; // the one on top: what a tap means
  standing: Standing; // of it
  open: number; // how many tiles can be claimed here
  mine: boolean; // one of them is the player's
  x: number; // of its middle
  y: number;
  w: number;
  h: number;
}

/**
 * How wide a marker must be to be seen: less where there are many, so that a
 * full sea still reads as tiles, and more where there are few.
 */
export function markerSize(frame: Frame, count: number): number {
  const room = Math.sqrt((frame.width * frame.height) / Math.max(count, 1));
  return Math.max(4, Math.min(18, room * 0.42));
}

/** The tiles that lie in one cell; maps draw from the same cells, so there may be several. */
interface Pile {
  top: TileView;
  standing: Standing;
  open: number;
  mine: boolean;
}

const rank: Record<Standing, number> = { closed: 0, soon: 0, taken: 1, mine: 2, expiring: 3, open: 4 };

/** Piles up the tiles that lie in the frame, the best of each cell on top. */
function pileUp(scene: Scene, frame: Frame): Map<string, Pile> {
  const piles = new Map<string, Pile>();
  for (const tile of scene.tiles) {
    const y = screenY(frame, tile.y);
    if (y > frame.height || y + tile.h * frame.world < 0 || !scene.shown(tile.kind)) continue;
    const how = standing(tile, scene.player, scene.now);
    if (rank[how] === 0) continue;
    const pile = piles.get(tile.geohash);
    const open = rank[how] >= rank.expiring ? 1 : 0;
    if (!pile) {
      piles.set(tile.geohash, { top: tile, standing: how, open, mine: how === "mine" });
      continue;
    }
    pile.open += open;
    pile.mine ||= how === "mine";
    if (rank[how] > rank[pile.standing] || (how === pile.standing && tile.reward > pile.top.reward)) {
      pile.top = tile;
      pile.standing = how;
    }
  }
  return piles;
}

/** Places the cells that show, nearest the reader last. */
export function place(scene: Scene, frame: Frame): Placed[] {
  const shown: { pile: Pile; left: number }[] = [];
  for (const pile of pileUp(scene, frame).values()) {
    const span = pile.top.w * frame.world;
    for (let left = screenX(frame, pile.top.x, span); left < frame.width; left += frame.world) shown.push({ pile, left });
  }
  const least = markerSize(frame, shown.length);
  return shown
    .map(({ pile: { top, ...pile }, left }) => {
      const w = top.w * frame.world, h = top.h * frame.world;
      return { tile: top, ...pile, x: left + w / 2, y: screenY(frame, top.y) + h / 2, w: Math.max(least, w), h: Math.max(least, h) };
    })
    .sort((a, b) => rank[a.standing] - rank[b.standing]);
}

/** Paints what was placed. Returns how soon it wants to paint again, in milliseconds; 0 is at the next chance. */
export function paintTiles(pen: CanvasRenderingContext2D, frame: Frame, scene: Scene, placed: Placed[], palette: Palette): number {
  pen.clearRect(0, 0, frame.width, frame.height);
  pen.save();
  pen.beginPath();
  pen.rect(band, band, frame.width - 2 * band, frame.height - 2 * band);
  pen.clip();
  const range = rangeOf(placed);
  let fading = false;
  for (const one of placed) {
    if (one.standing === "taken") paintTaken(pen, one, palette);
    else if (one.standing === "mine") paintMine(pen, one, palette);
    else {
      fading ||= one.standing === "expiring";
      pen.globalAlpha = one.standing === "expiring" ? fade(one.tile, scene) : 1;
      paintOpen(pen, one, worth(one.tile, range), palette);
    }
    pen.globalAlpha = 1;
    if (one.standing !== "mine" && Math.min(one.w, one.h) >= glyphFrom) paintBadges(pen, one, palette);
    if (one.tile.geohash === scene.selected || one.tile.geohash === scene.hovered) paintHalo(pen, one, palette);
  }
  paintPulses(pen, frame, scene, palette);
  pen.restore();
  if (scene.pulses.length > 0 && !scene.calm) return 0;
  return fading && !scene.calm ? 90 : 250;
}

/** A tile that is about to close is hollow, sinks and, unless the player wants calm, blinks. */
function fade(tile: TileView, scene: Scene): number {
  const left = Math.max(0, (tile.closes - scene.now) / expiringMs);
  const blink = scene.calm ? 1 : 0.72 + 0.28 * Math.sin((tile.closes - scene.now) / (60 + 100 * left));
  return (0.45 + 0.5 * left) * blink;
}

function shape(pen: CanvasRenderingContext2D, { x, y, w, h }: Placed, inset = 0): void {
  const width = w - 2 * inset, height = h - 2 * inset;
  pen.beginPath();
  if (Math.max(w, h) < cellFrom) pen.ellipse(x, y, width / 2, height / 2, 0, 0, 2 * Math.PI);
  else pen.roundRect(x - width / 2, y - height / 2, width, height, Math.min(4, width / 6));
}

/** Open tiles are solid, those about to close hollow: no colour needs to be told apart. */
function paintOpen(pen: CanvasRenderingContext2D, one: Placed, worth: number, palette: Palette): void {
  const { tile, x, y, w, h } = one;
  const color = palette.kinds[tile.kind];
  const hollow = one.standing === "expiring";
  const across = Math.min(w, h);
  const cell = Math.max(w, h) >= cellFrom;
  const alpha = pen.globalAlpha;
  if (!cell) {
    if (across < 7) {
      pen.fillStyle = color;
      pen.globalAlpha = alpha * (0.55 + 0.45 * worth);
      const side = hollow ? across / 2 : across;
      pen.fillRect(x - side / 2, y - side / 2, side, side);
      return;
    }
    shape(pen, one, hollow ? 1 : 0);
    pen.fillStyle = hollow ? palette.edge : color;
    pen.globalAlpha = alpha * (hollow ? 1 : 0.62 + 0.38 * worth);
    pen.fill();
    pen.globalAlpha = alpha;
    pen.lineWidth = hollow ? 2 : across < 12 ? 1 : 1.5;
    pen.strokeStyle = hollow ? color : palette.edge;
    pen.stroke();
  } else {
    shape(pen, one, 1);
    pen.fillStyle = color;
    pen.globalAlpha = hollow ? 0 : alpha * (0.28 + 0.5 * worth);
    pen.fill();
    pen.globalAlpha = alpha;
    pen.strokeStyle = color;
    pen.lineWidth = hollow ? 2.5 : 1.5;
    if (hollow) pen.setLineDash([5, 3]);
    pen.stroke();
    pen.setLineDash([]);
  }
  if (across >= glyphFrom) glyph(pen, tile.kind, x, y, Math.min(across * 0.5, 30), hollow ? color : palette.glyph);
}

/** How a tile is paid among those that show, 0 to 1: the least and the most of a hunt are far apart, so by logarithm. */
function worth(tile: TileView, { least, most }: Range): number {
  if (most <= least) return 1;
  return Math.max(0, Math.min(1, Math.log(Math.max(tile.reward, 1) / least) / Math.log(most / least)));
}

/** The least and the most that tiles carry. */
interface Range {
  least: number;
  most: number;
}

function rangeOf(placed: Placed[]): Range {
  const range = { least: Infinity, most: 1 };
  for (const { tile } of placed) {
    range.least = Math.min(range.least, Math.max(tile.reward, 1));
    range.most = Math.max(range.most, tile.reward);
  }
  return range;
}

function paintTaken(pen: CanvasRenderingContext2D, one: Placed, palette: Palette): void {
  const across = Math.min(one.w, one.h);
  pen.globalAlpha = 0.75;
  if (across < 7) {
    pen.fillStyle = palette.taken;
    pen.globalAlpha = 0.38;
    pen.fillRect(one.x - across / 3, one.y - across / 3, across / 1.5, across / 1.5);
    return;
  }
  shape(pen, one, across * 0.14);
  pen.strokeStyle = palette.taken;
  pen.lineWidth = 1.25;
  pen.stroke();
  const arm = across * 0.14;
  pen.beginPath();
  pen.moveTo(one.x - arm, one.y - arm);
  pen.lineTo(one.x + arm, one.y + arm);
  pen.moveTo(one.x + arm, one.y - arm);
  pen.lineTo(one.x - arm, one.y + arm);
  pen.stroke();
}

/** Mine: a cairn on gold, and never smaller than one can see. */
function paintMine(pen: CanvasRenderingContext2D, one: Placed, palette: Palette): void {
  const across = Math.max(16, Math.min(one.w, one.h));
  const grown = { ...one, w: Math.max(one.w, across), h: Math.max(one.h, across) };
  shape(pen, grown, 0.5);
  pen.fillStyle = palette.mine;
  pen.fill();
  pen.strokeStyle = palette.mineEdge;
  pen.lineWidth = 1.5;
  pen.stroke();
  glyph(pen, "mine", one.x, one.y, Math.min(across * 0.58, 34), "#3b2c05");
}

/** Says what lies under the tile on top: a tile of mine, and how many more can be claimed. */
function paintBadges(pen: CanvasRenderingContext2D, one: Placed, palette: Palette): void {
  const x = one.x + one.w / 2 - 5, top = one.y - one.h / 2 + 4;
  if (one.mine) {
    pen.beginPath();
    pen.arc(one.x - one.w / 2 + 6, top + 2, 4.5, 0, 2 * Math.PI);
    pen.fillStyle = palette.mine;
    pen.fill();
    pen.strokeStyle = palette.mineEdge;
    pen.lineWidth = 1;
    pen.stroke();
  }
  if (one.open < 2 || one.w < 26) return;
  // A notch for each further tile, like the edges of a stack of cards.
  pen.fillStyle = palette.edge;
  for (let i = 0; i < Math.min(one.open - 1, 5); i++) pen.fillRect(x - 4 * i, top, 2.2, 5);
}

function paintHalo(pen: CanvasRenderingContext2D, one: Placed, palette: Palette): void {
  shape(pen, one, -4);
  pen.strokeStyle = palette.edge;
  pen.lineWidth = 4;
  pen.stroke();
  pen.strokeStyle = palette.label;
  pen.lineWidth = 2;
  pen.stroke();
}

function paintPulses(pen: CanvasRenderingContext2D, frame: Frame, scene: Scene, palette: Palette): void {
  if (scene.calm) return;
  for (const { tile, from, mine } of scene.pulses) {
    const age = (scene.clock - from) / pulseMs;
    if (age < 0 || age >= 1) continue;
    const eased = 1 - (1 - age) ** 3;
    const w = tile.w * frame.world, h = tile.h * frame.world;
    const y = screenY(frame, tile.y) + h / 2;
    for (let left = screenX(frame, tile.x, w); left < frame.width; left += frame.world) {
      pen.beginPath();
      pen.arc(left + w / 2, y, Math.max(4, Math.min(w, h) / 2) + eased * (mine ? 46 : 16), 0, 2 * Math.PI);
      pen.strokeStyle = mine ? palette.mine : palette.kinds[tile.kind];
      pen.globalAlpha = (1 - eased) * (mine ? 1 : 0.8);
      pen.lineWidth = mine ? 4 : 2;
      pen.stroke();
      pen.globalAlpha = 1;
    }
  }
}

const reach = 24; // pixels that a thumb may be off

/** The tile that a tap at (x, y) means, of those that show: the nearest that can be claimed, else the nearest. */
export function hit(placed: Placed[], x: number, y: number): TileView | undefined {
  let best: TileView | undefined;
  let bestScore = Infinity;
  for (const one of placed) {
    const dx = Math.max(0, Math.abs(x - one.x) - one.w / 2), dy = Math.max(0, Math.abs(y - one.y) - one.h / 2);
    const off = Math.hypot(dx, dy);
    if (off > reach) continue;
    const claimable = one.standing === "open" || one.standing === "expiring";
    const score = off + Math.hypot(x - one.x, y - one.y) / 1000 + (claimable ? 0 : reach / 2);
    if (score < bestScore) [best, bestScore] = [one.tile, score];
  }
  return best;
}

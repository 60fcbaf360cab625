import { latAt, lonAt, mercatorX, mercatorY, screenY, type Frame } from "./mercator";
import type { Palette } from "./palette";

/** How wide the chart's frame is, in pixels. */
export const band = 7;

/** Steps between lines of the graticule, in degrees; the frame has `of` ticks a step. */
const steps: [step: number, of: number][] = [[30, 3], [15, 3], [10, 5], [5, 5], [2, 4], [1, 4], [1 / 2, 3], [1 / 4, 3], [1 / 6, 5], [1 / 12, 5], [1 / 30, 4], [1 / 60, 4], [1 / 120, 3]];

/**
 * Paints what a nautical chart has around its ground: the graticule, and a
 * frame whose dark and light parts are parts of a degree, with their labels.
 */
export function paintChart(pen: CanvasRenderingContext2D, frame: Frame, palette: Palette): void {
  pen.clearRect(0, 0, frame.width, frame.height);
  const wanted = frame.width < 700 ? 100 : 150; // pixels between lines
  const [step, of] = steps.find(([step]) => (step / 360) * frame.world <= wanted * 1.6) ?? steps.at(-1)!;
  const meridians = lines(lonAt(frame.left / frame.world), lonAt((frame.left + frame.width) / frame.world), step / of);
  const parallels = lines(latAt((frame.top + frame.height) / frame.world), latAt(frame.top / frame.world), step / of);
  const xOf = (lon: number): number => mercatorX(lon) * frame.world - frame.left;
  const yOf = (lat: number): number => screenY(frame, mercatorY(lat));

  pen.strokeStyle = palette.line;
  pen.globalAlpha = 0.22;
  pen.lineWidth = 1;
  pen.beginPath();
  for (const lon of meridians) if (whole(lon / step)) line(pen, crisp(xOf(lon)), 0, crisp(xOf(lon)), frame.height);
  for (const lat of parallels) if (whole(lat / step)) line(pen, 0, crisp(yOf(lat)), frame.width, crisp(yOf(lat)));
  pen.stroke();
  pen.globalAlpha = 1;

  paintBand(pen, frame, palette, meridians.map(xOf), parallels.map(yOf), Math.round(meridians[0]! / (step / of)), Math.round(parallels[0]! / (step / of)));
  pen.font = "600 10px ui-sans-serif, system-ui, sans-serif";
  pen.fillStyle = palette.label;
  pen.textBaseline = "middle";
  for (const lon of meridians) {
    if (!whole(lon / step) || xOf(lon) < 40 || xOf(lon) > frame.width - 40) continue;
    pen.textAlign = "center";
    text(pen, degrees(((((lon + 180) % 360) + 360) % 360) - 180, "E", "W"), xOf(lon), frame.height - band - 9, palette);
  }
  for (const lat of parallels) {
    if (!whole(lat / step) || yOf(lat) < 90 || yOf(lat) > frame.height - 110) continue;
    pen.textAlign = "left";
    text(pen, degrees(lat, "N", "S"), band + 5, yOf(lat), palette);
  }
}

/** Paints the frame: two rails with every other part between ticks filled. */
function paintBand(pen: CanvasRenderingContext2D, frame: Frame, palette: Palette, xs: number[], ys: number[], x0: number, y0: number): void {
  const { width, height } = frame;
  pen.fillStyle = palette.paper;
  for (const [x, y, w, h] of [[0, 0, width, band], [0, height - band, width, band], [0, 0, band, height], [width - band, 0, band, height]] as const) pen.fillRect(x, y, w, h);
  pen.fillStyle = palette.line;
  const part = band - 4;
  xs.forEach((x, i) => {
    const to = xs[i + 1];
    if (to === undefined || (x0 + i) % 2 === 0) return;
    for (const y of [2, height - band + 2]) pen.fillRect(x, y, to - x, part);
  });
  ys.forEach((y, i) => {
    const to = ys[i + 1];
    if (to === undefined || (y0 + i) % 2 === 0) return;
    for (const x of [2, width - band + 2]) pen.fillRect(x, to, part, y - to);
  });
  pen.fillStyle = palette.paper; // corners are plain
  for (const [x, y] of [[0, 0], [width - band, 0], [0, height - band], [width - band, height - band]] as const) pen.fillRect(x, y, band, band);
  pen.strokeStyle = palette.line;
  pen.lineWidth = 1;
  for (const inset of [0.5, band - 0.5]) pen.strokeRect(inset, inset, width - 2 * inset, height - 2 * inset);
}

/** Multiples of a step from just below `from` to just above `to`. */
function lines(from: number, to: number, step: number): number[] {
  const out: number[] = [];
  for (let n = Math.floor(from / step); n <= Math.ceil(to / step); n++) out.push(n * step);
  return out;
}

const whole = (n: number): boolean => Math.abs(n - Math.round(n)) < 1e-6;
const crisp = (at: number): number => Math.round(at) + 0.5;

function line(pen: CanvasRenderingContext2D, x1: number, y1: number, x2: number, y2: number): void {
  pen.moveTo(x1, y1);
  pen.lineTo(x2, y2);
}

function text(pen: CanvasRenderingContext2D, words: string, x: number, y: number, palette: Palette): void {
  pen.lineWidth = 3;
  pen.lineJoin = "round";
  pen.strokeStyle = palette.paper;
  pen.globalAlpha = 0.8;
  pen.strokeText(words, x, y);
  pen.globalAlpha = 1;
  pen.fillText(words, x, y);
}

/** "59°30′N". */
function degrees(value: number, positive: string, negative: string): string {
  const tenths = Math.round(Math.abs(value) * 600); // of a minute
  const whole = Math.floor(tenths / 600), minutes = (tenths % 600) / 10;
  const side = tenths === 0 || tenths === 108_000 ? "" : value < 0 ? negative : positive;
  return `${whole}°${minutes ? `${minutes.toFixed(minutes % 1 ? 1 : 0).padStart(2, "0")}′` : ""}${side}`;
}


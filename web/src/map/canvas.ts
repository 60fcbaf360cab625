import type { Position } from "geojson";
import type { Theme } from "../game/theme.svelte";
import type { Box } from "../geo/geohash";
import { loadLand } from "./atlas";
import type { Land } from "./land";
import { fit, frameAt, latAt, lonAt, mercatorX, mercatorY, screenX, type Frame } from "./mercator";
import { inks, worldMax, worldMin, type Surface, type SurfaceEvents } from "./surface";

const slack = 6; // pixels that a tap may wander before it is a drag

/** A ring in the unit square of Web Mercator, with its bounds. */
interface Outline {
  points: Float64Array;
  west: number;
  east: number;
  north: number;
  south: number;
}

/** A surface for browsers without WebGL: the same chart on a 2D canvas. */
export class CanvasSurface implements Surface {
  readonly #canvas = document.createElement("canvas");
  readonly #observer: ResizeObserver;
  readonly #fingers = new Map<number, { x: number; y: number }>();
  #rings: Outline[] = [];
  #coast: Outline[] = [];
  #lon = 10;
  #lat = 30;
  #world = 512;
  #drawing = 0;
  #wandered = 0;

  constructor(
    private readonly container: HTMLElement,
    private readonly events: SurfaceEvents,
    private theme: Theme,
  ) {
    this.#canvas.className = "ground";
    container.append(this.#canvas);
    this.#observer = new ResizeObserver(() => this.#move(0, 0));
    this.#observer.observe(container);
    container.addEventListener("pointerdown", this.#down);
    container.addEventListener("pointermove", this.#drag);
    container.addEventListener("pointerup", this.#up);
    container.addEventListener("pointercancel", this.#up);
    container.addEventListener("wheel", this.#wheel, { passive: false });
    container.addEventListener("keydown", this.#key);
    container.tabIndex = 0;
    void loadLand("coarse").then((land) => this.#show(land));
  }

  #show(land: Land): void {
    this.#rings = land.polygons.coordinates.flat().map(outline);
    this.#coast = land.coast.coordinates.map(outline);
    this.#redraw();
  }

  frame(): Frame {
    return frameAt(this.#lon, this.#lat, this.#world, this.container.clientWidth, this.container.clientHeight);
  }

  fit(box: Box): void {
    const { clientWidth, clientHeight } = this.container;
    const to = fit(box, clientWidth, clientHeight);
    this.#lon = to.lon;
    this.#lat = to.lat;
    this.#world = to.world;
    this.#move(0, 0);
  }

  zoom(steps: number): void {
    this.#zoomAt(2 ** steps, this.container.clientWidth / 2, this.container.clientHeight / 2);
  }

  dress(theme: Theme): void {
    this.theme = theme;
    this.#redraw();
  }

  destroy(): void {
    this.#observer.disconnect();
    cancelAnimationFrame(this.#drawing);
    this.#canvas.remove();
  }

  /** Moves the ground by pixels and keeps the poles off the screen. */
  #move(dx: number, dy: number): void {
    const { clientWidth: width, clientHeight: height } = this.container;
    this.#world = Math.max(worldMin, height, Math.min(worldMax, this.#world));
    const frame = frameAt(this.#lon, this.#lat, this.#world, width, height);
    const top = Math.max(0, Math.min(this.#world - height, frame.top - dy));
    this.#lon = ((((lonAt((frame.left - dx + width / 2) / this.#world) + 180) % 360) + 360) % 360) - 180;
    this.#lat = latAt((top + height / 2) / this.#world);
    this.events.moved();
    this.#redraw();
  }

  #zoomAt(factor: number, x: number, y: number): void {
    const { width, height } = this.frame();
    const grown = Math.max(worldMin, height, Math.min(worldMax, this.#world * factor));
    const by = grown / this.#world;
    // The point under the finger stays: shift, scale, shift back.
    this.#world = grown;
    this.#move((x - width / 2) * (1 - by), (y - height / 2) * (1 - by));
  }

  #redraw(): void {
    cancelAnimationFrame(this.#drawing);
    this.#drawing = requestAnimationFrame(() => {
      const frame = this.frame();
      const ratio = window.devicePixelRatio || 1;
      this.#canvas.width = frame.width * ratio;
      this.#canvas.height = frame.height * ratio;
      const pen = this.#canvas.getContext("2d");
      if (!pen) return;
      pen.scale(ratio, ratio);
      this.#paint(pen, frame);
      this.events.settled();
    });
  }

  #paint(pen: CanvasRenderingContext2D, frame: Frame): void {
    const ink = inks[this.theme];
    pen.fillStyle = ink.sea;
    pen.fillRect(0, 0, frame.width, frame.height);
    const land = trace(this.#rings, frame);
    const coast = trace(this.#coast, frame);
    pen.lineJoin = "round";
    for (const [color, width] of [[ink.shoal, 22], [ink.shallows, 10]] as const) {
      pen.strokeStyle = color;
      pen.lineWidth = width;
      pen.stroke(coast);
    }
    pen.fillStyle = ink.land;
    pen.fill(land, "evenodd");
    pen.strokeStyle = ink.coast;
    pen.lineWidth = 1;
    pen.stroke(coast);
  }

  readonly #down = (event: PointerEvent): void => {
    this.#fingers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    if (this.#fingers.size === 1) this.#wandered = 0;
    this.container.setPointerCapture(event.pointerId);
  };

  readonly #drag = (event: PointerEvent): void => {
    const before = this.#fingers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.offsetX, y: event.offsetY };
    this.#wandered += Math.hypot(now.x - before.x, now.y - before.y);
    const other = [...this.#fingers].find(([id]) => id !== event.pointerId)?.[1];
    this.#fingers.set(event.pointerId, now);
    if (other) {
      const apart = Math.hypot(before.x - other.x, before.y - other.y);
      this.#zoomAt(Math.hypot(now.x - other.x, now.y - other.y) / Math.max(apart, 1), other.x, other.y);
    } else if (this.#wandered > slack) {
      this.#move(now.x - before.x, now.y - before.y);
    }
  };

  readonly #up = (event: PointerEvent): void => {
    const known = this.#fingers.delete(event.pointerId);
    if (known && event.type === "pointerup" && this.#fingers.size === 0 && this.#wandered <= slack) {
      this.events.tapped(event.offsetX, event.offsetY);
    }
  };

  readonly #wheel = (event: WheelEvent): void => {
    event.preventDefault();
    this.#zoomAt(2 ** (-event.deltaY / 300), event.offsetX, event.offsetY);
  };

  readonly #key = (event: KeyboardEvent): void => {
    const step = 80;
    const moves: Record<string, [number, number]> = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    const move = moves[event.key];
    if (move) this.#move(...move);
    else if (event.key === "+" || event.key === "=") this.zoom(1);
    else if (event.key === "-") this.zoom(-1);
    else return;
    event.preventDefault();
  };
}

function outline(ring: Position[]): Outline {
  const points = new Float64Array(ring.length * 2);
  let west = 1, east = 0, north = 1, south = 0;
  ring.forEach(([lon, lat], i) => {
    const x = mercatorX(lon!), y = mercatorY(lat!);
    points[2 * i] = x;
    points[2 * i + 1] = y;
    west = Math.min(west, x);
    east = Math.max(east, x);
    north = Math.min(north, y);
    south = Math.max(south, y);
  });
  return { points, west, east, north, south };
}

/** The path of the outlines that show, in every copy of the world that does. */
function trace(outlines: Outline[], frame: Frame): Path2D {
  const path = new Path2D();
  for (const { points, west, east, north, south } of outlines) {
    if (south * frame.world < frame.top || north * frame.world > frame.top + frame.height) continue;
    for (let left = screenX(frame, west, (east - west) * frame.world); left < frame.width; left += frame.world) {
      const shift = left - west * frame.world;
      path.moveTo(points[0]! * frame.world + shift, points[1]! * frame.world - frame.top);
      for (let i = 2; i < points.length; i += 2) path.lineTo(points[i]! * frame.world + shift, points[i + 1]! * frame.world - frame.top);
    }
  }
  return path;
}

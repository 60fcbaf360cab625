import { wrap, type Box } from "../geo/geohash";

/** Where a longitude falls in the unit square of Web Mercator. */
export function mercatorX(lon: number): number {
  return (lon + 180) / 360;
}

/** Where a latitude falls in the unit square of Web Mercator; 0 is north. */
export function mercatorY(lat: number): number {
  const bounded = Math.max(-85.0511, Math.min(85.0511, lat));
  const sine = Math.sin((bounded * Math.PI) / 180);
  return 0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI);
}

/** The longitude at x of the unit square. */
export function lonAt(x: number): number {
  return x * 360 - 180;
}

/** The latitude at y of the unit square. */
export function latAt(y: number): number {
  return (Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180) / Math.PI;
}

/**
 * What is on the screen: north up, in CSS pixels. The world is `world` pixels
 * wide, and the screen's top left corner lies at (left, top) of it.
 */
export interface Frame {
  world: number;
  left: number;
  top: number;
  width: number;
  height: number;
}

/** The frame around a centre. */
export function frameAt(lon: number, lat: number, world: number, width: number, height: number): Frame {
  return { world, left: mercatorX(lon) * world - width / 2, top: mercatorY(lat) * world - height / 2, width, height };
}

/** The part of the world in a frame. */
export function boxOf(frame: Frame): Box {
  const whole = frame.width >= frame.world;
  return {
    west: whole ? -180 : wrap(lonAt(frame.left / frame.world)),
    east: whole ? 180 : wrap(lonAt((frame.left + frame.width) / frame.world)),
    north: latAt(Math.max(0, frame.top / frame.world)),
    south: latAt(Math.min(1, (frame.top + frame.height) / frame.world)),
  };
}

/** The leftmost x ≥ −span at which something at x of the unit square shows; its copies follow a world apart. */
export function screenX(frame: Frame, x: number, span: number): number {
  const from = x * frame.world - frame.left + span;
  return from - Math.floor(from / frame.world) * frame.world - span;
}

/** The y at which something at y of the unit square shows. */
export function screenY(frame: Frame, y: number): number {
  return y * frame.world - frame.top;
}

/** Pixels at the edges that bars and buttons cover, so that what is fitted stays clear of them. */
function margins(width: number): { top: number; bottom: number; side: number } {
  return width < 700 ? { top: 84, bottom: 110, side: 24 } : { top: 92, bottom: 60, side: 72 };
}

/** The centre and the world's width, in pixels, at which a box fills what is free of a screen. */
export function fit(box: Box, width: number, height: number): { lon: number; lat: number; world: number } {
  const { top, bottom, side } = margins(width);
  const across = (box.west <= box.east ? box.east - box.west : box.east + 360 - box.west) / 360;
  const north = mercatorY(box.north);
  const south = mercatorY(box.south);
  const world = Math.min((width - 2 * side) / Math.max(across, 1e-9), (height - top - bottom) / Math.max(south - north, 1e-9));
  return { lon: wrap(box.west + across * 180), lat: latAt((north + south) / 2 + (bottom - top) / 2 / world), world };
}

/**
 * The part of the WebSocket API that the client uses. Browsers' own, Node's,
 * and those of the packages `undici` and `ws` all have it.
 */
export interface Socket {
  readonly readyState: number;
  onopen: ((event: never) => unknown) | null;
  onmessage: ((event: never) => unknown) | null;
  onclose: ((event: never) => unknown) | null;
  onerror: ((event: never) => unknown) | null;
  send(text: string): void;
  close(): void;
}

/** How a socket is made: the WebSocket class. */
export type SocketClass = new (url: string, protocol: string) => Socket;

/** Time and chance. Tests give others than the machine's own. */
export interface Environment {
  setTimeout(call: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  /** Milliseconds, never set back. */
  now(): number;
  /** At least 0, below 1. */
  random(): number;
}

export const machine: Environment = {
  setTimeout: (call, ms) => setTimeout(call, ms),
  clearTimeout: (timer) => clearTimeout(timer as number),
  now: () => performance.now(),
  random: () => Math.random(),
};

/** WebSocket.OPEN, which is the same everywhere. */
export const open = 1;

/** The WebSocket class to use; throws if there is none. */
export function socketClass(given?: SocketClass): SocketClass {
  const found = given ?? (globalThis as { WebSocket?: SocketClass }).WebSocket;
  if (!found) throw new Error("There is no global WebSocket here: Node has it from 22 on. Give the client one, such as: import { WebSocket } from \"undici\"; new LiveClient({ url, WebSocket }).");
  return found;
}

/** The address of /v1/live, absolute and of a WebSocket's scheme. Throws a TypeError if it is none. */
export function liveURL(url: string | URL): string {
  const absolute = new URL(url, (globalThis as { location?: { href: string } }).location?.href);
  absolute.protocol = absolute.protocol.replace(/^http/, "ws");
  if (absolute.protocol !== "ws:" && absolute.protocol !== "wss:") throw new TypeError(`url is ${absolute.href}; want ws:, wss:, http: or https:.`);
  absolute.hash = ""; // a WebSocket's address has none
  return absolute.href;
}

/**
 * A client of Cairn's live protocol for browsers and Node, without dependencies.
 *
 * @packageDocumentation
 */
export { Backoff } from "./backoff.js";
export { Disconnected, LiveClient, type Events, type Gap, type Lost, type Options, type State } from "./client.js";
export type * from "./frames.js";
export { Progress, type Fit } from "./progress.js";
export type { Environment, Socket, SocketClass } from "./socket.js";
export { HuntView, type Change, type Holder, type OpenMap, type Tile, type ViewEvents } from "./view.js";

// The live half of the public API as a module of its own: it imports nothing.
export { Backoff } from "./backoff";
export { Disconnected, LiveClient, type Environment, type Options, type Socket, type State } from "./client";
export type * from "./frames";

import { Disconnected, LiveClient } from "@veltrix/cairn-client";
import { WebSocket } from "undici"; // Node 22 has its own: leave this out, and WebSocket below

const api = process.env.CAIRN ?? "http://127.0.0.1:8080";
const headers = { "Content-Type": "application/json" };
const guest = await fetch(`${api}/v1/players`, { method: "POST", headers, body: JSON.stringify({ name: "ana" }) });
const { token } = (await guest.json()) as { token: string };

const client = new LiveClient({ url: `${api}/v1/live`, token, WebSocket, signal: AbortSignal.timeout(10_000) });
const view = client.view("demo");
const asked = new Set<string>();
view.on("change", async () => {
  const tile = [...view.maps.values()].flatMap((map) => [...map.tiles.values()]).find((tile) => tile.puzzle === "tap" && !tile.holder && !asked.has(tile.geohash));
  if (!tile) return;
  asked.add(tile.geohash);
  const answer = await client.claim({ hunt: "demo", map: tile.map, tile: tile.index }).catch((why: Error) => why);
  console.log(tile.geohash, answer instanceof Disconnected ? "not known: ask again over HTTP" : answer);
});
client.watch({ hunt: "demo", regions: [""], standings: false });
client.start();

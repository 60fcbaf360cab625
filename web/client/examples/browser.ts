import { LiveClient } from "@veltrix/cairn-client";

const client = new LiveClient({ url: "wss://play.example/v1/live" });
const view = client.view("oslo-winter");

view.on("change", ({ claimed }) => {
  const tiles = [...view.maps.values()].flatMap((map) => [...map.tiles.values()]);
  document.title = `${tiles.filter((tile) => !tile.holder).length} tiles are free`;
  for (const tile of claimed) console.log(`${tile.holder?.name} took ${tile.geohash}`);
});
client.on("state", (state) => (document.body.dataset.state = state));
client.on("error", ({ code, detail }) => console.warn(code, detail));

client.watch({ hunt: "oslo-winter", regions: ["u4xs", "u4xe"], standings: true });
client.start();

// A page that wakes up may have been cut off without a word.
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && client.probe());
addEventListener("online", () => client.retry());

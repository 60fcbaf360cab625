import { unpackLand, type Land } from "./land";
import coarse from "./land/coarse.land?url";
import fine from "./land/fine.land?url";

const urls = { coarse, fine };
const loaded = new Map<keyof typeof urls, Promise<Land>>();

/** Loads land once: coarse is Natural Earth 1:50m, fine 1:10m. */
export function loadLand(which: keyof typeof urls): Promise<Land> {
  let land = loaded.get(which);
  if (!land) {
    land = fetch(urls[which])
      .then((response) => {
        if (!response.ok) throw new Error(`land: ${response.status}`);
        return response.arrayBuffer();
      })
      .then((bytes) => unpackLand(new Uint8Array(bytes)));
    land.catch(() => loaded.delete(which)); // a later call tries again
    loaded.set(which, land);
  }
  return land;
}

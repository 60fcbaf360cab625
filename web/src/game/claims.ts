import { Problem, type Client } from "../api/client";
import type { TileRef, Verdict } from "../api/types";
import { readVerdict } from "../api/verdict";
import { Disconnected, type LiveClient } from "../live";

const pollMs = 400; // between questions how a pending claim ended
const pollsMost = 20;

/**
 * Claims a tile: over the socket when it is live, else, or when the connection
 * goes before the answer comes, over HTTP. Asking twice is safe: the holder of
 * a tile hears the original answer.
 */
export async function claimTile(client: Client, live: LiveClient, ref: TileRef, answer: string, token: string): Promise<Verdict> {
  const attempt = { map: ref.tick, tile: ref.index, claim_id: claimID(), ...(answer && { answer }), ...(token && { token }) };
  const ask = async (): Promise<Verdict> => {
    try {
      const frame = await live.claim({ hunt: ref.hunt, ...attempt });
      return readVerdict({ ...frame });
    } catch (why) {
      if (!(why instanceof Disconnected)) throw why;
      return client.claim(ref.hunt, attempt);
    }
  };
  try {
    let verdict = await ask();
    if (verdict.outcome === "error" && verdict.code === "unavailable") {
      await wait(pollMs);
      verdict = await client.claim(ref.hunt, attempt);
    }
    return verdict.outcome === "pending" ? await settle(client, ref) : verdict;
  } catch (why) {
    if (why instanceof Problem) return { outcome: "error", code: why.code, detail: why.message };
    throw why;
  }
}

/** Asks how a pending claim ended until it did. */
async function settle(client: Client, ref: TileRef): Promise<Verdict> {
  let verdict: Verdict = { outcome: "pending" };
  for (let polls = 0; polls < pollsMost && verdict.outcome === "pending"; polls++) {
    await wait(pollMs);
    verdict = await client.claimOf(ref);
  }
  return verdict;
}

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** crypto.randomUUID is there in secure contexts only; a LAN address is none. */
const claimID = (): string => [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

import { Problem, type Client } from "../api/client";
import type { Attempt, TileRef, Verdict } from "../api/types";
import { readVerdict } from "../api/verdict";
import { Disconnected, type LiveClient } from "@veltrix/cairn-client";

const againMs = 400; // between questions to a server that could not answer, or not yet
const patienceMs = 20_000; // how long to go on asking

/**
 * Claims a tile: over the socket when it is live, else, or when the connection
 * goes before the answer comes, over HTTP, until the server can answer. Asking
 * again is safe: the holder of a tile hears the original answer.
 */
export async function claimTile(client: Client, live: LiveClient, ref: TileRef, answer: string, token: string): Promise<Verdict> {
  const attempt = { map: ref.tick, tile: ref.index, claim_id: claimID(), ...(answer && { answer }), ...(token && { token }) };
  const until = Date.now() + patienceMs;
  let verdict = await overSocket(live, ref.hunt, attempt);
  while (verdict === undefined || undecided(verdict)) {
    if (verdict !== undefined) {
      if (Date.now() > until) break;
      await wait(againMs * (0.5 + Math.random()));
    }
    // What is pending was taken and will be decided: ask how, rather than again.
    verdict = await overHTTP(() => (verdict?.outcome === "pending" ? client.claimOf(ref) : client.claim(ref.hunt, attempt)));
  }
  return verdict;
}

/** Whether the server did not say how it ended. */
function undecided(verdict: Verdict): boolean {
  return verdict.outcome === "pending" || (verdict.outcome === "error" && ["unavailable", "unreachable"].includes(verdict.code));
}

/** The verdict, or undefined if the connection went before it came. */
async function overSocket(live: LiveClient, hunt: string, attempt: Attempt): Promise<Verdict | undefined> {
  try {
    return readVerdict({ ...(await live.claim({ hunt, ...attempt })) });
  } catch (why) {
    if (why instanceof Disconnected) return undefined;
    throw why;
  }
}

async function overHTTP(ask: () => Promise<Verdict>): Promise<Verdict> {
  try {
    return await ask();
  } catch (why) {
    if (why instanceof Problem) return { outcome: "error", code: why.code, detail: why.message };
    throw why;
  }
}

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** crypto.randomUUID is there in secure contexts only; a LAN address is none. */
const claimID = (): string => [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

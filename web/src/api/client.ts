import { verdictOf } from "./verdict";
import type { Attempt, Hunt, PuzzleKind, RewardsPage, Standings, TileRef, TreasureMap, Verdict } from "./types";

/** A problem that the server answered with (RFC 9457), or that kept it from answering (status 0). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
  ) {
    super(detail);
  }
}

/** The HTTP half of the public API. `token` may change at any time. */
export class Client {
  token: string | undefined;

  /** Called when the server no longer takes the token. */
  refused: () => void = () => {};

  constructor(private readonly base = "") {}

  signIn(name: string): Promise<{ player: string; token: string }> {
    return this.#json("POST", "/v1/players", { name });
  }

  hunts(): Promise<{ hunts: Hunt[]; now: string }> {
    return this.#json("GET", "/v1/hunts");
  }

  currentMap(hunt: string): Promise<TreasureMap> {
    return this.#json("GET", `/v1/hunts/${hunt}/maps/current`);
  }

  puzzle(ref: TileRef): Promise<{ kind: PuzzleKind; prompt: unknown; token: string }> {
    return this.#json("GET", `${path(ref)}/puzzle`);
  }

  standings(hunt: string, window: "hunt" | "hour", limit: number): Promise<Standings> {
    return this.#json("GET", `/v1/hunts/${hunt}/standings?window=${window}&limit=${limit}`);
  }

  around(hunt: string, window: "hunt" | "hour", player: string, around: number): Promise<Standings> {
    return this.#json("GET", `/v1/hunts/${hunt}/standings/${encodeURIComponent(player)}?window=${window}&around=${around}`);
  }

  rewards(cursor?: string): Promise<RewardsPage> {
    return this.#json("GET", `/v1/players/me/rewards?limit=50${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
  }

  async claim(hunt: string, attempt: Attempt): Promise<Verdict> {
    return verdictOf(...(await this.#send("POST", `/v1/hunts/${hunt}/claims`, attempt)));
  }

  /** How my claim of a tile ended: settles a pending one. */
  async claimOf(ref: TileRef): Promise<Verdict> {
    return verdictOf(...(await this.#send("GET", `${path(ref)}/claim`)));
  }

  async #json<T>(method: string, url: string, body?: unknown): Promise<T> {
    const [response, answer] = await this.#send(method, url, body);
    if (response.ok) return answer as T;
    throw new Problem(response.status, String(answer.code ?? "unknown"), String(answer.detail ?? response.statusText));
  }

  async #send(method: string, url: string, body?: unknown): Promise<[Response, Record<string, unknown>]> {
    const headers: Record<string, string> = { Accept: "application/json" };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response: Response;
    try {
      response = await fetch(this.base + url, { method, headers, body: body === undefined ? null : JSON.stringify(body) });
    } catch {
      throw new Problem(0, "unreachable", "The server can't be reached.");
    }
    if (response.status === 401) this.refused();
    const answer = (await response.json().catch(() => undefined)) as Record<string, unknown> | undefined;
    if (!answer && response.ok) throw new Problem(0, "unreachable", "The server's answer broke off."); // what it did is not known
    return [response, answer ?? {}];
  }
}

const path = ({ hunt, tick, index }: TileRef): string => `/v1/hunts/${hunt}/maps/${tick}/tiles/${index}`;

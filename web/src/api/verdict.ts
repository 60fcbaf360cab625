import type { Verdict } from "./types";

/** The verdict in the answer to a claim, whatever its status. */
export function verdictOf(response: { headers: { get(name: string): string | null } }, body: Record<string, unknown>): Verdict {
  const retry = Number(response.headers.get("Retry-After"));
  return readVerdict({ ...body, ...(retry > 0 && { retry_after_ms: retry * 1000 }) });
}

/** The verdict in a body: an outcome, or a problem whose code is one. */
export function readVerdict(body: Record<string, unknown>): Verdict {
  const outcome = String(body.outcome ?? body.code ?? "unknown");
  const number = (name: string, otherwise: number): number => (typeof body[name] === "number" ? (body[name] as number) : otherwise);
  const text = (name: string): string => String(body[name] ?? "");
  switch (outcome) {
    case "won":
      return { outcome, offset: text("offset"), reward: number("reward", 0) };
    case "gone":
      return { outcome, winner: text("winner"), winner_name: text("winner_name") || text("winner"), margin_ms: number("margin_ms", 0) };
    case "wrong":
      return { outcome, attempts_left: number("attempts_left", 0) };
    case "throttled":
      return { outcome, retry_after_ms: number("retry_after_ms", 1000) };
    case "closed":
    case "unknown_tile":
    case "pending":
      return { outcome };
    default:
      return { outcome: "error", code: outcome, detail: text("detail") || "The server could not answer." };
  }
}

/** Who plays in this browser, kept over reloads. */
export interface Session {
  player: string;
  name: string;
  token: string;
}

const key = "cairn.session";

export function loadSession(): Session | undefined {
  try {
    const stored = JSON.parse(localStorage.getItem(key) ?? "null") as Partial<Session> | null;
    if (stored?.player && stored.name && stored.token) return { player: stored.player, name: stored.name, token: stored.token };
  } catch {
    // Not ours, or broken: sign in anew.
  }
  return undefined;
}

export function keepSession(session: Session | undefined): void {
  if (session) localStorage.setItem(key, JSON.stringify(session));
  else localStorage.removeItem(key);
}

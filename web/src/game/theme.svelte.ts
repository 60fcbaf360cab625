export type Theme = "light" | "dark";

const key = "cairn.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");
const reduced = matchMedia("(prefers-reduced-motion: reduce)");

let chosen = $state<Theme | null>(readTheme());
let system = $state<Theme>(dark.matches ? "dark" : "light");
let still = $state(reduced.matches);

dark.addEventListener("change", () => (system = dark.matches ? "dark" : "light"));
reduced.addEventListener("change", () => (still = reduced.matches));

function readTheme(): Theme | null {
  const stored = localStorage.getItem(key);
  return stored === "light" || stored === "dark" ? stored : null;
}

/** The theme to paint in: the player's choice, else the system's. */
export function theme(): Theme {
  return chosen ?? system;
}

/** Whether the player asked for less motion. */
export function calm(): boolean {
  return still;
}

/** Changes between day and night; choosing what the system has follows it again. */
export function toggleTheme(): void {
  const next = theme() === "light" ? "dark" : "light";
  chosen = next === system ? null : next;
  if (chosen) localStorage.setItem(key, chosen);
  else localStorage.removeItem(key);
}

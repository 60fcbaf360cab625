/**
 * Micro-units as units: 1,000,000 is 1.00. What is no whole hundredth shows all
 * six digits, so that amounts in a column line up. Money never passes through a
 * float until it is text.
 */
export function money(micro: number): string {
  const negative = micro < 0;
  const whole = Math.trunc(Math.abs(micro) / 1_000_000);
  const part = String(Math.abs(micro) % 1_000_000).padStart(6, "0").replace(/0000$/, "");
  return `${negative ? "−" : ""}¤${whole.toLocaleString("en")}.${part}`;
}

/** "38 ms", "1.2 s". */
export function span(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

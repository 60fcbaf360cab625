const unitMs: Record<string, number> = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1, "µs": 0.001, us: 0.001, ns: 0.000001 };

/** A Go duration such as "1m30s" in milliseconds, or `otherwise` if it is none. */
export function milliseconds(duration: string | undefined, otherwise: number): number {
  if (!duration || !/^([\d.]+(h|ms|µs|us|ns|m|s))+$/.test(duration)) return otherwise;
  let sum = 0;
  for (const [, number, unit] of duration.matchAll(/([\d.]+)(h|ms|µs|us|ns|m|s)/g)) sum += Number(number) * unitMs[unit!]!;
  return sum;
}

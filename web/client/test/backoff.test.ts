import { expect, test } from "vitest";
import { Backoff } from "../src/index.js";

test("ceilings double up to the cap, and the jitter is full", () => {
  const ceilings: number[] = [];
  const most = new Backoff(100, 1000, () => 1);
  for (let i = 0; i < 6; i++) ceilings.push(most.next());
  expect(ceilings).toEqual([100, 200, 400, 800, 1000, 1000]);
  most.reset();
  expect(most.next()).toBe(100);
  expect(new Backoff(100, 1000, () => 0).next()).toBe(0);
});

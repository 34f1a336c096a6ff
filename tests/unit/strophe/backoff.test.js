import assert from "node:assert/strict";
import { test } from "node:test";

import { backoff } from "../../../media/strophe/src/backoff.js";

const almostOne = () => 1 - Number.EPSILON;

test("the ceiling doubles from half a second to thirty", () => {
  const ceilings = [0, 1, 2, 3, 4, 5, 6, 7].map((attempt) => backoff(attempt, almostOne));
  assert.deepEqual(ceilings, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
});

test("it never exceeds thirty seconds, however long the server stays away", () => {
  assert.equal(backoff(1_000_000, almostOne), 30_000);
});

test("the jitter is full: it reaches down to nothing", () => {
  assert.equal(backoff(7, () => 0), 0);
  assert.equal(backoff(7, () => 0.5), 15_000);
});

test("by default two visitors do not wait equally long", () => {
  const waits = new Set(Array.from({ length: 50 }, () => backoff(7)));
  assert.ok(waits.size > 25);
});

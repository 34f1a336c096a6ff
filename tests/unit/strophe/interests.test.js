import assert from "node:assert/strict";
import { test } from "node:test";

import { Interests } from "../../../media/strophe/src/interests.js";
import { installLocks } from "./locks.js";

installLocks();

/** As many tabs as asked for, in one scope that no other test has. */
let scopes = 0;
function tabs(count) {
  const scope = `scope ${++scopes}`;
  return Array.from({ length: count }, () => new Interests(scope));
}

/** A function that is called if the last tab goes, and how often it was. */
function unsubscribing() {
  const ifLast = async () => void ifLast.calls++;
  ifLast.calls = 0;
  return ifLast;
}

/** A promise, and what resolves it. */
function deferred() {
  let resolve;
  const promise = new Promise((settle) => (resolve = settle));
  return { promise, resolve };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("who listens last unsubscribes, and nobody before him", async () => {
  const [a, b] = tabs(2);
  const ifLast = unsubscribing();
  await Promise.all([a.hold("/n"), b.hold("/n")]);
  await a.release("/n", ifLast);
  assert.equal(ifLast.calls, 0);
  await b.release("/n", ifLast);
  assert.equal(ifLast.calls, 1);
});

test("of tabs that leave a node at once one unsubscribes", async () => {
  const all = tabs(5);
  const ifLast = unsubscribing();
  await Promise.all(all.map((tab) => tab.hold("/n")));
  await Promise.all(all.map((tab) => tab.release("/n", ifLast)));
  assert.equal(ifLast.calls, 1);
});

test("nodes, and streams, do not count for each other", async () => {
  const [a, b] = tabs(2);
  const [stranger] = tabs(1);
  const ifLast = unsubscribing();
  await Promise.all([a.hold("/n"), b.hold("/other"), stranger.hold("/n")]);
  await a.release("/n", ifLast);
  assert.equal(ifLast.calls, 1);
});

test("holding twice is holding once", async () => {
  const [a, b] = tabs(2);
  const ifLast = unsubscribing();
  await Promise.all([a.hold("/n"), a.hold("/n")]);
  await a.hold("/n");
  await a.release("/n", unsubscribing());
  await b.release("/n", ifLast);
  assert.equal(ifLast.calls, 1);
});

test("who never listened may find out that nobody does", async () => {
  const [a, b] = tabs(2);
  const [first, second] = [unsubscribing(), unsubscribing()];
  await a.hold("/n");
  await b.release("/n", first);
  assert.equal(first.calls, 0);
  await a.release("/n", unsubscribing());
  await b.release("/n", second);
  assert.equal(second.calls, 1);
});

test("nobody begins to listen while another unsubscribes", async () => {
  const [a, b] = tabs(2);
  const [begun, answer] = [deferred(), deferred()];
  const told = [];
  await a.hold("/n");
  const released = a.release("/n", () => (begun.resolve(), answer.promise));
  await begun.promise;
  const held = b.hold("/n").then(() => told.push("held"));
  await turn();
  told.push("unsubscribed");
  answer.resolve();
  await Promise.all([released, held]);
  assert.deepEqual(told, ["unsubscribed", "held"]);
});

test("a tab that takes up again what it is leaving listens in the end", async () => {
  const [a, b] = tabs(2);
  const ifLast = unsubscribing();
  await a.hold("/n");
  const released = a.release("/n", ifLast);
  await a.hold("/n");
  assert.equal(ifLast.calls, 1); // so that it has to subscribe anew
  await released;
  await b.release("/n", ifLast);
  assert.equal(ifLast.calls, 1);
});

test("a tab that leaves what it is only taking up does not listen in the end", async () => {
  const [a, b, c] = tabs(3);
  const [begun, answer] = [deferred(), deferred()];
  const told = [];
  await a.hold("/n");
  const first = a.release("/n", () => (begun.resolve(), answer.promise));
  await begun.promise;
  const held = b.hold("/n").then(() => told.push("held"));
  const second = b.release("/n", async () => told.push("unsubscribed"));
  answer.resolve();
  await Promise.all([first, held, second]);
  assert.deepEqual(told, ["held", "unsubscribed"]);
  const ifLast = unsubscribing();
  await c.release("/n", ifLast);
  assert.equal(ifLast.calls, 1);
});

test("a failure to unsubscribe is told, and holds nobody up", async () => {
  const [a, b] = tabs(2);
  await a.hold("/n");
  const refused = a.release("/n", () => Promise.reject(new Error("refused")));
  await assert.rejects(refused, /refused/);
  await Promise.all([a.hold("/n"), b.hold("/n")]);
});

test("a tab that goes holds nothing, and unsubscribes from nothing", async () => {
  const [a, b] = tabs(2);
  const [begun, answer] = [deferred(), deferred()];
  await b.hold("/m");
  const unsubscribed = b.release("/m", () => (begun.resolve(), answer.promise));
  await Promise.all([a.hold("/n"), begun.promise]);
  const late = a.hold("/m"); // not held yet
  a.releaseAll();
  answer.resolve();
  await Promise.all([late, unsubscribed]);
  for (const node of ["/m", "/n"]) {
    const ifLast = unsubscribing();
    await a.release(node, async () => {}); // after all that it has begun
    await b.release(node, ifLast);
    assert.equal(ifLast.calls, 1, node);
  }
});

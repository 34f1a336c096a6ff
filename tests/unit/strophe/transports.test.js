import assert from "node:assert/strict";
import { test } from "node:test";

import { isReachable, Transports } from "../../../media/strophe/src/transports.js";

const WS = new URL("ws://localhost/ws");
const BOSH = new URL("http://localhost/http-bind");

/** What a browser keeps for as long as the tab lives. */
class Storage {
  kept = {};

  getItem(key) {
    return this.kept[key] ?? null;
  }

  setItem(key, value) {
    this.kept[key] = value;
  }
}

/**
 * Tries again and again, "ws:down bosh:ok …": what each attempt comes to, "down" where the server
 * cannot be reached at all. Says which transport each attempt chose, and "!" where it follows at once.
 */
async function tried(outcomes, { urls = [WS, BOSH], storage = new Storage() } = {}) {
  const transports = new Transports(urls, () => storage);
  const chosen = [];
  for (const outcome of outcomes.split(" ")) {
    const name = transports.url === WS ? "ws" : "bosh";
    if (outcome === "ok") {
      transports.worked();
      chosen.push(name);
    } else {
      const again = await transports.failed(async () => outcome === "blocked");
      chosen.push(name + (again ? "!" : ""));
    }
  }
  return chosen.join(" ");
}

test("WebSocket comes first", async () => {
  assert.equal(await tried("ok ok"), "ws ws");
});

test("BOSH is tried at once where WebSocket fails and the server can be reached", async () => {
  assert.equal(await tried("blocked ok"), "ws! bosh");
});

test("a server that is down is no reason to leave WebSocket", async () => {
  assert.equal(await tried("down down down ok"), "ws ws ws ws");
});

test("a WebSocket that has worked is given a second chance: the server may just have come up", async () => {
  assert.equal(await tried("ok down blocked ok"), "ws ws ws! ws");
  assert.equal(await tried("ok blocked blocked ok"), "ws ws! ws! bosh");
  assert.equal(await tried("ok blocked down blocked ok"), "ws ws! ws ws! ws");
});

test("where both fail they are tried in turn, and no faster than once a round", async () => {
  assert.equal(await tried("blocked down blocked down blocked ok"), "ws! bosh ws! bosh ws! bosh");
});

test("the choice is remembered by the tab", async () => {
  const storage = new Storage();
  await tried("blocked ok", { storage });
  assert.equal(await tried("ok", { storage }), "bosh");
  await tried("down ok", { storage });
  assert.equal(await tried("ok", { storage }), "ws");
});

test("a choice that cannot be had any more is forgotten", async () => {
  const storage = new Storage();
  storage.setItem("pubsub-transport", "bosh");
  assert.equal(await tried("ok", { storage, urls: [WS] }), "ws");
  storage.setItem("pubsub-transport", "pigeon");
  assert.equal(await tried("ok", { storage }), "ws");
});

test("a single address is kept, whatever happens", async () => {
  assert.equal(await tried("blocked down blocked", { urls: [WS] }), "ws ws ws");
  assert.equal(await tried("blocked down ok", { urls: [BOSH] }), "bosh bosh bosh");
});

test("a browser that keeps nothing changes transports all the same", async () => {
  const transports = new Transports([WS, BOSH], () => {
    throw new Error("SecurityError");
  });
  assert.equal(await transports.failed(async () => true), true);
  assert.equal(transports.url, BOSH);
  transports.worked();
});

test("the server is reachable if BOSH answers", async (t) => {
  const answer = t.mock.method(globalThis, "fetch", async () => ({ ok: true }));
  assert.equal(await isReachable([WS, BOSH]), true);
  assert.equal(answer.mock.calls[0].arguments[0], BOSH);
  answer.mock.mockImplementation(async () => ({ ok: false }));
  assert.equal(await isReachable([WS, BOSH]), false);
  answer.mock.mockImplementation(() => Promise.reject(new TypeError("no network")));
  assert.equal(await isReachable([WS, BOSH]), false);
  answer.mock.resetCalls();
  assert.equal(await isReachable([WS]), false);
  assert.equal(answer.mock.callCount(), 0);
});

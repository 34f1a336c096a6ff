import assert from "node:assert/strict";
import { test } from "node:test";

import { Collection } from "../../../media/strophe/src/collection.js";
import { PubSubError } from "../../../media/strophe/src/errors.js";
import { element } from "./dom.js";

// Node 18 has it behind a flag.
globalThis.CustomEvent ??= class extends Event {
  constructor(type, { detail }) {
    super(type);
    this.detail = detail;
  }
};

/** A client whose node is the test: `tell` are the handlers that the collection gave it. */
class FakeClient {
  left = 0;

  subscribe(node, handlers) {
    assert.equal(node, "/n");
    this.tell = handlers;
    return { unsubscribe: async () => void this.left++ };
  }
}

const item = (id, text = "") => ({ node: "/n", id, text, entry: element(`<entry>${text}</entry>`) });
const short = (items) => items.map(({ id, text }) => `${id}${text}`).join();
const show = (collection) => short([...collection.values()]);

/** A collection, what tells it, and what its change events have said. */
function follow({ max, synced } = {}) {
  const client = new FakeClient();
  const collection = new Collection(client, "/n", max);
  const changes = [];
  if (synced) {
    client.tell.onSync(synced);
  }
  collection.addEventListener("change", ({ detail: { added, updated, removed } }) =>
    changes.push(`+${short(added)} ~${short(updated)} -${short(removed)}`),
  );
  return { client, collection, changes, ...client.tell };
}

test("it is a Map of the items by their ids", () => {
  const { collection } = follow({ synced: [item("2", "b"), item("1", "a")] });
  assert.ok(collection instanceof Map);
  assert.equal(collection.get("1").text, "a");
  assert.deepEqual([...collection.keys()], ["2", "1"]);
  assert.deepEqual([...new Map(collection).keys()], ["2", "1"]);
  assert.equal(collection.node, "/n");
});

test("what is new comes last, and what is overwritten keeps its place", () => {
  const { collection, changes, onItem } = follow({ synced: [item("1"), item("2")] });
  onItem(item("3"));
  onItem(item("1", "x"));
  assert.equal(show(collection), "1x,2,3");
  assert.deepEqual(changes, ["+3 ~ -", "+ ~1x -"]);
});

test("what was taken back goes, and comes back last", () => {
  const { collection, changes, onItem, onRetract } = follow({ synced: [item("1", "a"), item("2")] });
  onRetract("1");
  onRetract("1");
  onItem(item("1", "b"));
  assert.equal(show(collection), "2,1b");
  assert.deepEqual(changes, ["+ ~ -1a", "+1b ~ -"]);
});

test("a synchronization puts the node's state and order in the place of all, by one event", () => {
  const { collection, changes, onSync } = follow({ synced: [item("1"), item("2"), item("3")] });
  onSync([item("3"), item("2", "x"), item("4")]);
  assert.equal(show(collection), "3,2x,4");
  assert.deepEqual(changes, ["+4 ~2x -1"]);
});

test("a synchronization that brings nothing new keeps the very items and makes no event", () => {
  const { collection, changes, onSync } = follow({ synced: [item("1", "a"), item("2")] });
  const former = collection.get("1");
  onSync([item("1", "a"), item("2")]);
  onSync();
  assert.equal(collection.get("1"), former);
  assert.equal(show(collection), "1a,2");
  assert.deepEqual(changes, []);
});

test("a synchronization that brings but another order makes an event", () => {
  const { collection, changes, onSync } = follow({ synced: [item("1"), item("2")] });
  onSync([item("2"), item("1")]);
  assert.equal(show(collection), "2,1");
  assert.deepEqual(changes, ["+ ~ -"]);
});

test("an item that says nothing new makes no event", () => {
  const { changes, onItem } = follow({ synced: [item("1", "a")] });
  onItem(item("1", "a"));
  assert.deepEqual(changes, []);
});

test("items without a payload are taken for new, as nobody can know", () => {
  const { changes, onItem } = follow({ synced: [{ node: "/n", id: "1", text: "", entry: null }] });
  onItem({ node: "/n", id: "1", text: "", entry: null });
  assert.deepEqual(changes, ["+ ~1 -"]);
});

test("the first synchronization makes it ready, once; what came before is not told again", async () => {
  const { collection, changes, onItem, onRetract, onSync } = follow();
  onRetract("9");
  onItem(item("2", "x"));
  assert.equal(collection.synced, false);
  onSync([item("1"), item("2", "x")]);
  assert.equal(collection.synced, true);
  assert.equal(await collection.ready, collection);
  assert.equal(show(collection), "1,2x");
  assert.deepEqual(changes, ["+2x ~ -", "+1 ~ -"]);
});

test("a log, of which nobody tells the whole, is ready as well", async () => {
  const { collection, onItem, onSync } = follow();
  onItem(item("1"));
  onSync();
  assert.equal(show(await collection.ready), "1");
});

test("it keeps as many items as the node: the oldest make room", () => {
  const { collection, changes, onItem, onSync } = follow({ max: 2, synced: [item("1"), item("2")] });
  onItem(item("1", "x"));
  onItem(item("3"));
  assert.equal(show(collection), "2,3");
  onSync([item("2"), item("3"), item("4")]); // what the server says is so
  assert.equal(show(collection), "2,3,4");
  onItem(item("5"));
  assert.equal(show(collection), "4,5");
  assert.deepEqual(changes, ["+ ~1x -", "+3 ~ -1x", "+4 ~ -", "+5 ~ -2,3"]);
});

test("without a number it keeps all", () => {
  for (const max of [undefined, "max"]) {
    const { collection, onItem } = follow({ max, synced: [] });
    onItem(item("1"));
    onItem(item("2"));
    assert.equal(collection.size, 2);
  }
});

test("the page cannot change it", () => {
  const { collection } = follow({ synced: [item("1")] });
  const refused = { name: "TypeError", message: /\/n/ };
  assert.throws(() => collection.set("2", item("2")), refused);
  assert.throws(() => collection.delete("1"), refused);
  assert.throws(() => collection.clear(), refused);
  assert.equal(show(collection), "1");
});

test("the page's own items belong to it, whatever its client leaves out", () => {
  assert.equal(follow().excludeSelf, false);
});

test("a refusal is an event, and it may still become ready", (t) => {
  const warned = t.mock.method(console, "warn", () => {});
  const { collection, onError, onSync } = follow();
  const errors = [];
  collection.addEventListener("error", ({ detail }) => errors.push(detail));
  const error = new PubSubError("closed", { condition: "not-allowed" });
  onError(error);
  assert.deepEqual(errors, [error]);
  assert.equal(warned.mock.callCount(), 0);
  onSync([]);
  assert.equal(collection.synced, true);
});

test("a refusal that nobody listens to is shown in the console", (t) => {
  const warned = t.mock.method(console, "warn", () => {});
  follow().onError(new PubSubError("closed", { condition: "not-allowed" }));
  assert.deepEqual(warned.mock.calls[0].arguments, ["/n: closed"]);
});

test("a listener that was removed hears nothing", () => {
  const { collection, onItem } = follow({ synced: [] });
  const listener = () => assert.fail("removed");
  collection.addEventListener("change", listener);
  collection.removeEventListener("change", listener);
  onItem(item("1"));
});

test("closed it listens no more, and keeps what it has", async () => {
  const { client, collection } = follow({ synced: [item("1")] });
  await collection.close();
  assert.equal(client.left, 1);
  assert.equal(show(collection), "1");
});

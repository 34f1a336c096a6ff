import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { PubSubError } from "../../../media/strophe/src/errors.js";
import { checkHandlers, Feed } from "../../../media/strophe/src/subscription.js";
import { element } from "./dom.js";

/** A connection that remembers what is asked of it and answers what the test says. */
class FakeConnection {
  state = "online";
  subscriber = "me@guests/1";
  ownsSubscriptions = true;
  asked = [];
  answers = [];

  async request(to, { content }) {
    this.asked.push(/<(subscribe|unsubscribe) /.exec(content)[1]);
    this.last = { to, content };
    const answer = this.answers.shift();
    if (answer) {
      throw answer;
    }
  }
}

const refusal = (condition, type = "cancel", pubsubCondition = "") =>
  new PubSubError(condition, { condition, type, pubsubCondition });
const turn = () => new Promise((resolve) => setTimeout(resolve, 5));
const item = (id) => ({ kind: "item", node: "/n", item: { node: "/n", id } });
const gone = (id) => ({ kind: "retract", node: "/n", id });
const numbered = (id, seq) => {
  const meta = `<meta xmlns="urn:django-pubsub:1" seq="${seq}"/>`;
  const entry = element(`<entry xmlns="http://www.w3.org/2005/Atom">${meta}</entry>`);
  return { kind: "item", node: "/n", item: { node: "/n", id, entry, seq } };
};

function feed(connection = new FakeConnection()) {
  return { connection, feed: new Feed("/n", "pubsub.x", connection) };
}

/** Collects what is reported to the console while the test runs. */
function reported(t) {
  const seen = [];
  t.mock.method(console, "error", (error) => seen.push(error));
  t.mock.method(console, "warn", (text) => seen.push(text));
  return seen;
}

test("several listeners share one subscription on the server", async () => {
  const { connection, feed: node } = feed();
  const one = node.add({});
  const two = node.add({});
  await turn();
  assert.deepEqual(connection.asked, ["subscribe"]);
  assert.equal(connection.last.to, "pubsub.x");
  assert.match(connection.last.content, /jid="me@guests\/1"/);
  await one.unsubscribe();
  assert.deepEqual(connection.asked, ["subscribe"]);
  await two.unsubscribe();
  assert.deepEqual(connection.asked, ["subscribe", "unsubscribe"]);
  await two.unsubscribe();
  assert.equal(connection.asked.length, 2);
});

test("a feed ends with its last listener, and once", async () => {
  let ends = 0;
  const node = new Feed("/n", "pubsub.x", new FakeConnection(), () => ends++);
  const [one, two] = [node.add({}), node.add({})];
  await one.unsubscribe();
  assert.equal(ends, 0);
  await two.unsubscribe();
  await two.unsubscribe();
  assert.equal(ends, 1);
});

test("handlers that would never be called are refused, by name", () => {
  for (const wrong of [null, "text", 7, () => {}]) {
    assert.throws(() => checkHandlers(wrong), { name: "TypeError", message: /onItem/ });
  }
  assert.throws(() => checkHandlers({ onItem: "show" }), /onItem must be a function, not show/);
  assert.throws(() => checkHandlers({ onRetract: null }), /onRetract must be a function/);
  for (const wrong of [null, 1, "yes"]) {
    assert.throws(() => checkHandlers({ excludeSelf: wrong }), {
      name: "TypeError",
      message: `excludeSelf must be true or false, not ${wrong}`,
    });
  }
  checkHandlers({});
  checkHandlers({ onItem() {}, excludeSelf: true });
  checkHandlers({ onItem() {}, onError: undefined });
});

test("an account's subscription stays: the user's other tabs live on it", async () => {
  const { connection, feed: node } = feed();
  connection.ownsSubscriptions = false;
  await node.add({}).unsubscribe();
  assert.deepEqual(connection.asked, ["subscribe"]);
});

test("offline, nothing is asked; the next connection renews", async () => {
  const { connection, feed: node } = feed();
  connection.state = "connecting";
  node.add({});
  await turn();
  assert.deepEqual(connection.asked, []);
  connection.state = "online";
  node.renew();
  await turn();
  assert.deepEqual(connection.asked, ["subscribe"]);
});

test("a node that nobody listens to is not renewed", async () => {
  const { connection, feed: node } = feed();
  await node.add({}).unsubscribe();
  node.renew();
  await turn();
  assert.deepEqual(connection.asked, ["subscribe", "unsubscribe"]);
});

test("a subscription of a former session is not taken away in this one", async () => {
  const { connection, feed: node } = feed();
  const listener = node.add({});
  await turn();
  connection.subscriber = "me@guests/2";
  await listener.unsubscribe();
  assert.deepEqual(connection.asked, ["subscribe"]);
});

test("every listener hears every event", () => {
  const { feed: node } = feed();
  const heard = [];
  node.add({ onItem: ({ id }) => heard.push(["a", id]) });
  node.add({ onItem: ({ id }) => heard.push(["b", id]), onRetract: (id) => heard.push(["gone", id]) });
  node.notify(item("1"));
  node.notify({ kind: "retract", node: "/n", id: "1" });
  assert.deepEqual(heard, [["a", "1"], ["b", "1"], ["gone", "1"]]);
});

test("who excludes himself hears no own item, others do, and all in order", () => {
  const { feed: node } = feed();
  const heard = [];
  node.add({ onItem: ({ id }) => heard.push(["a", id]) }, true);
  node.add({ onItem: ({ id }) => heard.push(["b", id]) });
  node.notify(item("1"));
  node.notify(item("2"), true);
  node.notify(item("3"));
  assert.deepEqual(heard, [["a", "1"], ["b", "1"], ["b", "2"], ["a", "3"], ["b", "3"]]);
});

test("a retraction is always told", () => {
  const { feed: node } = feed();
  const heard = [];
  node.add({ onRetract: (id) => heard.push(id) }, true);
  node.notify({ kind: "retract", node: "/n", id: "1" }, true);
  assert.deepEqual(heard, ["1"]);
});

test("a repeat is told to no listener, and survives a new connection", () => {
  const { feed: node } = feed();
  const heard = [];
  const note = { onItem: ({ seq }) => heard.push(seq), onRetract: (id) => heard.push(`-${id}`) };
  node.add(note);
  node.add(note, true);
  node.notify(numbered("1", "s.1"));
  node.notify(numbered("1", "s.2"));
  node.renew();
  node.notify(numbered("1", "s.1"));
  node.notify(numbered("1", "s.2"));
  node.notify(gone("1"));
  node.notify(numbered("1", "s.1"));
  node.notify(gone("1"));
  node.notify(numbered("1", "s.4"));
  assert.deepEqual(heard, ["s.1", "s.1", "s.2", "s.2", "-1", "-1", "s.4", "s.4"]);
});

test("who came later hears a repeat of what is there, and nothing that is over", () => {
  const { feed: node } = feed();
  const heard = [];
  const note = (name) => ({ onItem: ({ seq }) => heard.push([name, seq]) });
  node.add(note("early"));
  node.notify(numbered("1", "s.1"));
  node.notify(numbered("1", "s.2"));
  node.add(note("late"));
  for (let run = 0; run < 2; run++) {
    node.notify(numbered("1", "s.1"));
    node.notify(numbered("1", "s.2"));
  }
  assert.deepEqual(heard, [["early", "s.1"], ["early", "s.2"], ["late", "s.2"]]);
});

test("who comes while an item is told has not heard it", () => {
  const { feed: node } = feed();
  const heard = [];
  let once = () => node.add({ onItem: ({ seq }) => heard.push(seq) });
  node.add({ onItem: () => { once(); once = () => {}; } });
  node.notify(numbered("1", "s.1"));
  assert.deepEqual(heard, []);
  node.notify(numbered("1", "s.1"));
  assert.deepEqual(heard, ["s.1"]);
});

test("a node that is made again numbers on, and loses nothing", () => {
  const { feed: node } = feed();
  const heard = [];
  node.add({ onItem: ({ seq }) => heard.push(seq), onRetract: (id) => heard.push(`-${id}`) });
  node.notify(numbered("1", "s.1"));
  node.notify(gone("2"));
  node.notify({ kind: "delete", node: "/n" });
  node.notify(numbered("1", "s.1"));
  node.notify(numbered("1", "s.2"));
  node.notify(gone("2"));
  assert.deepEqual(heard, ["s.1", "-2", "s.2", "-2"]);
});

test("an exception in a callback is reported and disturbs no other", (t) => {
  const seen = reported(t);
  const { feed: node } = feed();
  const heard = [];
  const fault = new Error("the page's fault");
  node.add({
    onItem() {
      throw fault;
    },
  });
  node.add({ onItem: ({ id }) => heard.push(id) });
  node.notify(item("1"));
  node.notify(item("2"));
  assert.deepEqual(heard, ["1", "2"]);
  assert.deepEqual(seen, [fault, fault]);
});

test("a listener may leave while it is called", () => {
  const { feed: node } = feed();
  const heard = [];
  const first = node.add({ onItem: () => first.unsubscribe() });
  node.add({ onItem: ({ id }) => heard.push(id) });
  node.notify(item("1"));
  assert.deepEqual(heard, ["1"]);
});

test("a refusal reaches onError, and is not tried again", async () => {
  const { connection, feed: node } = feed();
  const errors = [];
  connection.answers = [refusal("not-allowed", "cancel", "closed-node")];
  node.add({ onError: (error) => errors.push(error.pubsubCondition) });
  await turn();
  assert.deepEqual(errors, ["closed-node"]);
  assert.deepEqual(connection.asked, ["subscribe"]);
});

test("a refusal that nobody hears is reported", async (t) => {
  const seen = reported(t);
  const { connection, feed: node } = feed();
  connection.answers = [refusal("forbidden")];
  node.add({});
  await turn();
  assert.equal(seen[0].condition, "forbidden");
});

test("a node that is not there yet is awaited, and said once", async () => {
  const random = mock.method(Math, "random", () => 0);
  const { connection, feed: node } = feed();
  const errors = [];
  connection.answers = [refusal("item-not-found"), refusal("item-not-found"), refusal("timeout", "wait")];
  node.add({ onError: (error) => errors.push(error.condition) });
  await turn();
  await turn();
  await turn();
  random.mock.restore();
  assert.deepEqual(connection.asked, Array(4).fill("subscribe"));
  assert.deepEqual(errors, ["item-not-found", "timeout"]);
});

test("a node that was deleted is awaited too", async () => {
  const { connection, feed: node } = feed();
  node.add({});
  await turn();
  node.notify({ kind: "delete", node: "/n" });
  await turn();
  assert.deepEqual(connection.asked, ["subscribe", "subscribe"]);
});

test("losing the connection is no refusal", async (t) => {
  const seen = reported(t);
  const { connection, feed: node } = feed();
  connection.answers = [refusal("disconnected")];
  node.add({ onError: () => assert.fail("no error of the node") });
  await turn();
  assert.deepEqual(seen, []);
  assert.deepEqual(connection.asked, ["subscribe"]);
});

test("leaving a node ends the waiting for it", async (t) => {
  reported(t);
  t.mock.method(Math, "random", () => 0.01);
  const { connection, feed: node } = feed();
  connection.answers = [refusal("item-not-found")];
  const listener = node.add({});
  await Promise.resolve();
  await listener.unsubscribe();
  await turn();
  await turn();
  assert.equal(connection.asked.filter((name) => name === "subscribe").length, 1);
});

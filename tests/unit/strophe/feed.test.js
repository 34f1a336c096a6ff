import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { Feed } from "../../../media/strophe/src/feed.js";
import { refusal, Server } from "./server.js";

const turn = () => new Promise((resolve) => setTimeout(resolve, 5));
const SINCE = "2026-11-26T10:00:00Z"; // the server's clock when a test begins

/** A feed of a page that was rendered when the server's clock began; what it tells goes to all. */
function feed({ server = new Server(), hooks = {}, rendered = { since: SINCE } } = {}) {
  const onNews = (it, notification, moment) => it.notify(notification, false, moment);
  const all = { onNews, onChange() {}, onEnd() {}, ...hooks };
  return { server, feed: server.feedTo(new Feed("/n", "pubsub.x", server, all, rendered)) };
}

const text = ({ entry }) => entry.textContent;

/** Handlers that note what they are told. */
function noting(heard = []) {
  return {
    heard,
    onItem: (item) => heard.push(text(item)),
    onRetract: (id) => heard.push(`-${id}`),
    onSync: (items) => heard.push(items?.map(text) ?? "synced"),
  };
}

/** Collects what is reported to the console while the test runs. */
function reported(t) {
  const seen = [];
  t.mock.method(console, "error", (error) => seen.push(error));
  t.mock.method(console, "warn", (line) => seen.push(line));
  return seen;
}

test("several listeners share one subscription on the server", async () => {
  const { server, feed: node } = feed();
  const one = node.add({});
  const two = node.add({});
  await turn();
  assert.deepEqual(server.asked, ["subscribe", "count"]);
  await one.unsubscribe();
  assert.equal(server.asked.length, 2);
  await two.unsubscribe();
  assert.deepEqual(server.asked.slice(2), ["unsubscribe"]);
  assert.equal(server.last.to, "pubsub.x");
  assert.match(server.last.content, /jid="me@guests&#47;1"|jid="me@guests\/1"/);
  await two.unsubscribe();
  assert.equal(server.asked.length, 3);
});

test("a feed ends with its last listener, and once", async () => {
  let ends = 0;
  const { feed: node } = feed({ hooks: { onEnd: () => ends++ } });
  const [one, two] = [node.add({}), node.add({})];
  await one.unsubscribe();
  assert.equal(ends, 0);
  await two.unsubscribe();
  await two.unsubscribe();
  assert.equal(ends, 1);
});

test("who leaves before he could subscribe does not subscribe", async () => {
  const { server, feed: node } = feed();
  await node.add({}).unsubscribe();
  await turn();
  node.renew();
  await turn();
  assert.ok(!server.asked.includes("subscribe"));
});

test("offline, nothing is asked; the next connection renews", async () => {
  const { server, feed: node } = feed();
  server.lose();
  const one = node.add({});
  await turn();
  await one.unsubscribe();
  node.add({});
  assert.deepEqual(server.asked, []);
  server.comeBack();
  await turn();
  assert.deepEqual(server.asked, ["subscribe", "count"]);
});

test("every listener hears every event, in order", async () => {
  const { server, feed: node } = feed();
  const heard = [];
  node.add({ onItem: (item) => heard.push(["a", text(item)]) });
  node.add({ onItem: (item) => heard.push(["b", text(item)]), onRetract: (id) => heard.push(["b", id]) });
  await turn();
  server.publish("1");
  server.retract("1");
  assert.deepEqual(heard, [["a", "s.1"], ["b", "s.1"], ["b", "1"]]);
});

test("who excludes himself hears no own item, others do, and all in order", async () => {
  const hooks = { onNews: (it, told, moment) => it.notify(told, told.item?.id === "own", moment) };
  const { server, feed: node } = feed({ hooks });
  const heard = [];
  node.add({ onItem: ({ id }) => heard.push(["a", id]), onRetract: (id) => heard.push(["a", `-${id}`]) }, true);
  node.add({ onItem: ({ id }) => heard.push(["b", id]) });
  await turn();
  ["1", "own", "3"].forEach((id) => server.publish(id));
  server.retract("own");
  assert.deepEqual(heard, [["a", "1"], ["b", "1"], ["b", "own"], ["a", "3"], ["b", "3"], ["a", "-own"]]);
});

test("an exception in a callback is reported and disturbs no other", async (t) => {
  const seen = reported(t);
  const { server, feed: node } = feed();
  const fault = new Error("the page's fault");
  const fail = () => {
    throw fault;
  };
  node.add({ onItem: fail, onRetract: fail, onSync: fail });
  const note = noting();
  node.add(note);
  await turn();
  server.publish("1");
  server.retract("1");
  assert.deepEqual(note.heard, [[], "s.1", "-1"]);
  assert.deepEqual(seen, [fault, fault, fault]);
  assert.equal(node.isCatchingUp, false);
});

test("a listener may leave while it is called", async () => {
  const { server, feed: node } = feed();
  const first = node.add({ onItem: () => first.unsubscribe() });
  const note = noting();
  node.add(note);
  await turn();
  server.publish("1");
  assert.deepEqual(note.heard, [[], "s.1"]);
});

test("a repeat is told to no listener, and survives a new connection", async () => {
  const { server, feed: node } = feed();
  const note = noting();
  node.add(note);
  await turn();
  server.publish("1", { seq: "s.1" });
  server.publish("1", { seq: "s.2" });
  server.lose();
  server.comeBack();
  await turn();
  server.publish("1", { seq: "s.1" });
  server.publish("1", { seq: "s.2" });
  server.publish("1", { seq: "s.3" });
  assert.deepEqual(note.heard, [[], "s.1", "s.2", "synced", "s.3"]);
});

test("who came later hears a repeat of what is there, and nothing that is over", async () => {
  const { server, feed: node } = feed();
  const heard = [];
  const note = (name) => ({ onItem: (item) => heard.push([name, text(item)]) });
  node.add(note("early"));
  await turn();
  const [one, two] = [{ seq: "s.1" }, { seq: "s.2" }];
  server.publish("1", one);
  server.publish("1", two);
  node.add(note("late"));
  for (let run = 0; run < 2; run++) {
    server.publish("1", one);
    server.publish("1", two);
  }
  assert.deepEqual(heard, [["early", "s.1"], ["early", "s.2"], ["late", "s.2"]]);
});

// Catching up

test("between rendering and subscribing nothing is lost, and nothing that was rendered is told", async () => {
  const { server, feed: node } = feed();
  server.clock -= 3_600_000;
  server.publish("shown");
  server.publish("changed");
  server.clock = Date.parse(SINCE);
  server.publish("new");
  server.publish("changed");
  const news = [];
  node.add({ onItem: (item) => news.push(text(item)) });
  const note = noting();
  node.add(note);
  await turn();
  const all = ["s.1", "s.4", "s.3"];
  assert.deepEqual(news, ["s.4", "s.3"]);
  assert.deepEqual(note.heard, ["s.4", "s.3", all]);
});

test("what was saved before the page was rendered and committed after is news, if it is a new row", async () => {
  const { server, feed: node } = feed();
  server.clock += 1;
  server.publish("1", { at: "2026-11-26T09:59:59.900Z" });
  server.clock -= 1000;
  server.publish("2", { at: "2026-11-26T09:59:59.990Z" }); // the page shows it: it was posted there
  const heard = [];
  node.add({ onItem: (item) => heard.push(text(item)) });
  await turn();
  assert.deepEqual(heard, ["s.1"]);
});

test("who wants news only asks for no items where nothing is new", async () => {
  const { server, feed: node } = feed();
  server.clock -= 3_600_000;
  server.publish("1");
  const heard = [];
  node.add({ onItem: (item) => heard.push(text(item)) });
  await turn();
  assert.deepEqual(server.asked, ["subscribe"]);
  server.lose();
  server.comeBack();
  await turn();
  assert.deepEqual(server.asked, ["subscribe", "subscribe"]);
  assert.deepEqual(heard, []);
});

test("what comes while items are fetched is told once, after them", async () => {
  const { server, feed: node } = feed();
  server.publish("1");
  server.answers = [
    null,
    () => {
      server.publish("2");
      server.publish("1");
      server.retract("1");
    },
  ];
  const note = noting();
  node.add(note);
  await turn();
  assert.deepEqual(note.heard, ["s.2", "s.3", "-1", ["s.2"]]);
  server.publish("3");
  assert.equal(note.heard.at(-1), "s.4");
});

test("what comes after items were fetched and before the answer is told, too", async () => {
  const { server, feed: node } = feed();
  server.publish("1");
  const request = server.request.bind(server);
  server.request = async (...args) => {
    const answer = await request(...args);
    if (/<max>500</.test(args[1].content)) {
      server.publish("1");
      server.publish("2");
    }
    return answer;
  };
  const note = noting();
  node.add(note);
  await turn();
  assert.deepEqual(note.heard, ["s.1", "s.2", "s.3", ["s.2", "s.3"]]);
});

test("after an interruption it is told what was changed, what is new, and what has gone", async () => {
  const { server, feed: node } = feed();
  ["1", "2", "3"].forEach((id) => server.publish(id));
  const note = noting();
  node.add(note);
  await turn();
  server.lose();
  server.publish("2");
  server.retract("1");
  server.publish("4");
  note.heard.length = 0;
  server.comeBack();
  await turn();
  assert.deepEqual(note.heard, ["-1", "s.4", "s.5", ["s.4", "s.3", "s.5"]]);
});

test("after an interruption in which nothing happened no item is asked for", async () => {
  const { server, feed: node } = feed();
  server.publish("1");
  const note = noting();
  node.add(note);
  await turn();
  server.publish("2");
  note.heard.length = 0;
  server.asked.length = 0;
  server.lose();
  server.comeBack();
  await turn();
  assert.deepEqual(server.asked, ["subscribe", "count"]);
  assert.deepEqual(note.heard, ["synced"]);
});

test("what was retracted and nothing else is missed shows in the count", async () => {
  const { server, feed: node } = feed();
  ["1", "2"].forEach((id) => server.publish(id));
  const note = noting();
  node.add(note);
  await turn();
  server.lose();
  server.retract("1");
  server.comeBack();
  await turn();
  assert.deepEqual(note.heard.slice(-2), ["-1", ["s.2"]]);
});

test("a node that does not send its last item is fetched each time", async () => {
  const { server, feed: node } = feed();
  server.sendsLast = false;
  server.publish("1");
  const note = noting();
  node.add(note);
  await turn();
  server.lose();
  server.comeBack();
  await turn();
  assert.deepEqual(server.asked, ["subscribe", "count", "items", "subscribe", "count", "items"]);
  assert.deepEqual(note.heard, ["s.1", ["s.1"], ["s.1"]]);
});

test("of a log only what was created since is fetched", async () => {
  const { server, feed: node } = feed({ rendered: { since: SINCE, log: true } });
  server.clock -= 3_600_000;
  for (let id = 0; id < 3; id++) {
    server.publish(`old-${id}`);
  }
  server.clock = Date.parse(SINCE);
  server.publish("new");
  const heard = [];
  node.add({ onItem: (item) => heard.push(text(item)) });
  await turn();
  assert.match(server.last.content, /<after>2026-11-26T09:59:00.000Z</);
  assert.deepEqual(heard, ["s.4"]);
});

test("of a log all is fetched where something has gone, and by who has not seen it yet", async () => {
  const { server, feed: node } = feed({ rendered: { since: SINCE, log: true } });
  server.clock -= 3_600_000;
  ["1", "2"].forEach((id) => server.publish(id));
  server.clock = Date.parse(SINCE);
  const note = noting();
  node.add(note);
  await turn();
  assert.deepEqual(note.heard, [["s.1", "s.2"]]);
  server.lose();
  server.publish("3");
  server.comeBack();
  await turn();
  assert.deepEqual(note.heard.slice(1), ["s.3", "synced"]);
  server.lose();
  server.publish("4");
  server.retract("1");
  server.comeBack();
  await turn();
  assert.deepEqual(note.heard.slice(3), ["-1", "s.4", ["s.2", "s.3", "s.4"]]);
});

test("many items are fetched page by page, and one that moves meanwhile is there once", async () => {
  const { server, feed: node } = feed();
  for (let id = 0; id < 1200; id++) {
    server.publish(String(id));
  }
  server.answers = [
    null,
    null,
    () => {
      server.retract("0");
      server.publish("0");
      server.retract("1");
    },
  ];
  let state;
  node.add({ onSync: (items) => (state = items) });
  while (!state) {
    await turn();
  }
  assert.equal(server.asked.filter((name) => name === "items").length, 1 + 3);
  assert.equal(state.length, 1199);
  assert.deepEqual([state[0].id, state.at(-1).id], ["2", "0"]);
});

test("who comes later is told the state, and nobody else is", async () => {
  const { server, feed: node } = feed();
  const early = noting();
  node.add(early);
  await turn();
  server.publish("1");
  const late = noting();
  node.add(late);
  assert.ok(node.isCatchingUp);
  await turn();
  assert.deepEqual(early.heard, [[], "s.1"]);
  assert.deepEqual(late.heard, [["s.1"]]);
});

test("who comes while others catch up is told the state, too", async () => {
  const { server, feed: node } = feed();
  server.clock -= 3_600_000;
  server.publish("1");
  node.add({});
  const late = noting();
  server.answers = [() => node.add(late)];
  await turn();
  assert.deepEqual(late.heard, [["s.1"]]);
});

test("without the time of rendering what is there is no news, and what follows is", async () => {
  const { server, feed: node } = feed({ rendered: {} });
  server.publish("1");
  const heard = [];
  node.add({ onItem: (item) => heard.push(text(item)) });
  await turn();
  server.publish("2");
  server.lose();
  server.publish("3");
  server.publish("1");
  server.comeBack();
  await turn();
  assert.deepEqual(heard, ["s.2", "s.4", "s.3"]);
});

test("without the time of rendering the first item of an empty node is news", async () => {
  const { server, feed: node } = feed({ rendered: {} });
  const heard = [];
  node.add({ onItem: (item) => heard.push(text(item)) });
  await turn();
  server.lose();
  server.publish("1");
  server.comeBack();
  await turn();
  assert.deepEqual(heard, ["s.1"]);
});

test("what the server has forgotten and a publisher sends again is told again", async () => {
  const { server, feed: node } = feed();
  const note = noting();
  node.add(note);
  await turn();
  server.publish("1", { seq: "s.1" });
  server.publish("1", { seq: "s.2" });
  server.lose();
  server.publish("1", { seq: "s.1" }); // as after a crash
  server.comeBack();
  await turn();
  server.publish("1", { seq: "s.2" });
  assert.deepEqual(note.heard, [[], "s.1", "s.2", "s.1", ["s.1"], "s.2"]);
});

test("a feed says when something may be missing, and when it no longer is", async () => {
  const said = [];
  const hooks = { onChange: () => said.push(node.isCatchingUp) };
  const { server, feed: node } = feed({ hooks });
  node.add({ onSync: () => said.push("synced") });
  await turn();
  server.lose();
  server.comeBack();
  await turn();
  assert.deepEqual(said, [true, "synced", false, true, "synced", false]);
});

test("a connection that is lost while it catches up is caught up by the next", async () => {
  const { server, feed: node } = feed();
  server.publish("1");
  server.answers = [null, () => server.lose()];
  const note = noting();
  node.add(note);
  await turn();
  assert.deepEqual(note.heard, []);
  server.publish("2");
  server.comeBack();
  await turn();
  assert.deepEqual(note.heard, ["s.1", "s.2", ["s.1", "s.2"]]);
});

test("whatever happens while the connection comes and goes, the screen ends as the node is", async () => {
  // A linear congruential generator: the same runs each time.
  let state = 7;
  const random = (below) => (state = (state * 48271) % 2147483647) % below;
  for (let run = 0; run < 40; run++) {
    const { server, feed: node } = feed();
    server.sendsLast = run % 4 > 0;
    const shown = new Map();
    node.add({
      onItem: (item) => shown.set(item.id, text(item)),
      onRetract: (id) => shown.delete(id),
    });
    let whole;
    node.add({
      onItem: (item) => whole?.set(item.id, text(item)),
      onRetract: (id) => whole?.delete(id),
      onSync: (items) => (whole = items ? new Map(items.map((i) => [i.id, text(i)])) : whole),
    });
    for (let step = 0; step < 60; step++) {
      const id = String(random(6));
      const chance = random(10);
      if (chance < 5) {
        server.publish(id);
      } else if (chance < 8) {
        server.retract(id);
      } else if (server.state === "online") {
        server.lose();
      } else {
        server.comeBack();
      }
      random(3) || (await null);
      random(9) || (await turn());
    }
    server.state === "online" || server.comeBack();
    await turn();
    const truth = server.ids.sort();
    assert.deepEqual([...shown.keys()].sort(), truth, `run ${run}`);
    assert.deepEqual([...whole].sort(), [...shown].sort(), `run ${run}`);
  }
});

// Refusals

test("a refusal reaches onError, and is not tried again", async () => {
  const { server, feed: node } = feed();
  const errors = [];
  server.answers = [refusal("not-acceptable")];
  node.add({ onError: (error) => errors.push(error.condition) });
  await turn();
  assert.deepEqual(errors, ["not-acceptable"]);
  assert.deepEqual(server.asked, ["subscribe"]);
  assert.equal(node.isCatchingUp, false);
});

test("who comes after a refusal is a reason to try again, and hears why if there is none", async () => {
  const { server, feed: node } = feed();
  const errors = [];
  const handlers = { onError: (error) => errors.push(error.condition) };
  server.answers = [refusal("not-acceptable"), refusal("not-acceptable")];
  node.add(handlers);
  await turn();
  node.add(handlers);
  await turn();
  assert.equal(errors.length, 3);
  node.add(noting());
  await turn();
  assert.equal(errors.length, 3);
  assert.deepEqual(server.asked, ["subscribe", "subscribe", "subscribe", "count"]);
});

test("a refusal that nobody hears is reported", async (t) => {
  const seen = reported(t);
  const { server, feed: node } = feed();
  server.answers = [refusal("forbidden")];
  node.add({});
  await turn();
  assert.equal(seen[0].condition, "forbidden");
});

test("a node that is not there yet is awaited, and said once", async () => {
  const random = mock.method(Math, "random", () => 0);
  const { server, feed: node } = feed();
  const errors = [];
  const later = [refusal("item-not-found"), refusal("item-not-found"), refusal("timeout", "wait")];
  server.answers = later;
  node.add({ onError: (error) => errors.push(error.condition) });
  await turn();
  await turn();
  await turn();
  random.mock.restore();
  assert.deepEqual(server.asked, [...Array(4).fill("subscribe"), "count"]);
  assert.deepEqual(errors, ["item-not-found", "timeout"]);
});

test("while the server does not answer something may be missing", async (t) => {
  reported(t);
  t.mock.method(Math, "random", () => 0.999);
  const { server, feed: node } = feed();
  server.answers = [refusal("timeout", "wait")];
  const one = node.add({});
  await turn();
  assert.equal(node.isCatchingUp, true);
  await one.unsubscribe();
  assert.equal(node.isCatchingUp, false);
});

test("a node that keeps no items is listened to all the same", async () => {
  const { server, feed: node } = feed();
  server.answers = [null, refusal("feature-not-implemented")];
  const note = noting();
  node.add({ ...note, onError: () => assert.fail("no error of the node") });
  await turn();
  server.publish("1");
  assert.deepEqual(note.heard, ["synced", "s.1"]);
  assert.equal(node.isCatchingUp, false);
});

test("items that may not be read are an error, and events are told all the same", async () => {
  const { server, feed: node } = feed();
  const errors = [];
  server.sendsLast = false;
  server.answers = [null, () => server.publish("1"), refusal("forbidden", "auth")];
  const note = noting();
  node.add({ ...note, onError: (error) => errors.push(error.condition) });
  await turn();
  server.publish("2");
  assert.deepEqual(errors, ["forbidden"]);
  assert.deepEqual(note.heard, ["s.1", "s.2"]);
  assert.equal(node.isCatchingUp, false);
});

test("who comes while others are told is told the state, too, and until then it may be missing", async () => {
  const { server, feed: node } = feed({ rendered: { since: SINCE, log: true } });
  server.publish("1");
  const late = noting();
  let once = () => node.add(late);
  const come = () => {
    once();
    once = () => {};
  };
  node.add({ onItem: ({ id }) => id === "3" && come() });
  await turn();
  server.lose();
  ["2", "3", "4"].forEach((id) => server.publish(id));
  server.comeBack();
  await turn();
  assert.deepEqual(late.heard.at(-1), ["s.1", "s.2", "s.3", "s.4"]);
  assert.equal(node.isCatchingUp, false);
});

test("who comes in onSync is waited for", async () => {
  const { server, feed: node } = feed();
  server.publish("1");
  const late = noting();
  let waiting;
  node.add({
    onSync() {
      node.add(late);
      waiting = Promise.resolve().then(() => node.isCatchingUp);
    },
  });
  await turn();
  assert.equal(await waiting, true);
  assert.deepEqual(late.heard, [["s.1"]]);
  assert.equal(node.isCatchingUp, false);
});

test("what looks the same as what was heard last may follow something that was missed", async () => {
  const { server, feed: node } = feed();
  const plain = (id, word) => server.publish(id, { at: "", seq: "", text: word });
  const note = noting();
  node.add(note);
  await turn();
  ["open", "closed"].forEach((word) => plain("door", word));
  server.lose();
  plain("lamp", "on");
  plain("door", "closed");
  server.comeBack();
  await turn();
  assert.deepEqual(note.heard.slice(-2), ["on", ["closed", "on"]]);
  server.asked.length = 0;
  server.lose();
  server.comeBack();
  await turn();
  assert.deepEqual(server.asked, ["subscribe", "count"]);
});

test("what a node held has gone with it, and what it holds when it is made again is news", async (t) => {
  reported(t);
  const random = t.mock.method(Math, "random", () => 0.999);
  const { server, feed: node } = feed();
  const note = noting();
  node.add(note);
  await turn();
  server.publish("1");
  note.heard.length = 0;
  server.answers = [refusal("item-not-found")];
  server.lose();
  server.retract("1");
  server.comeBack();
  await turn();
  assert.deepEqual(note.heard, ["-1", []]);
  assert.equal(node.isCatchingUp, false);
  random.mock.restore();
  server.publish("2");
  node.renew();
  await turn();
  assert.deepEqual(note.heard.slice(2), ["s.2", ["s.2"]]);
});

test("an error that is none of the server's is shown, and tried again", async (t) => {
  const seen = reported(t);
  t.mock.method(Math, "random", () => 0);
  const { server, feed: node } = feed();
  const fault = new RangeError("of our own");
  server.answers = [fault];
  const note = noting();
  node.add(note);
  await turn();
  await turn();
  assert.deepEqual(seen, [fault]);
  assert.deepEqual(note.heard, [[]]);
  assert.equal(node.isCatchingUp, false);
});

test("a node that was deleted, or left by its owner's will, is subscribed anew", async () => {
  const { server, feed: node } = feed();
  const note = noting();
  node.add(note);
  await turn();
  server.publish("1");
  server.retract("1");
  node.receive({ kind: "end", node: "/n" });
  await turn();
  server.publish("1");
  assert.equal(server.asked.filter((name) => name === "subscribe").length, 2);
  assert.deepEqual(note.heard, [[], "s.1", "-1", [], "s.2"]);
});

test("losing the connection is no refusal", async (t) => {
  const seen = reported(t);
  const { server, feed: node } = feed();
  server.answers = [refusal("disconnected")];
  node.add({ onError: () => assert.fail("no error of the node") });
  await turn();
  assert.deepEqual(seen, []);
  assert.deepEqual(server.asked, ["subscribe"]);
});

test("leaving a node ends the waiting for it", async (t) => {
  reported(t);
  t.mock.method(Math, "random", () => 0.01);
  const { server, feed: node } = feed();
  server.answers = [refusal("item-not-found")];
  const listener = node.add({});
  await null;
  await listener.unsubscribe();
  await turn();
  await turn();
  assert.ok(server.asked.filter((name) => name === "subscribe").length <= 1);
});

// Private nodes

const closed = () => refusal("not-allowed", "cancel", "closed-node");

/** A feed of an account, whose server does not let it in before the site has admitted it. */
function privateFeed(t, { authorize, isGuest = false, ...rest } = {}) {
  const asked = [];
  const errors = [];
  let locked = 0;
  const hooks = {
    async authorize(node) {
      asked.push(node);
      return authorize();
    },
    onLocked: () => locked++,
  };
  const made = feed({ hooks, ...rest });
  made.server.isGuest = isGuest;
  made.server.answers = [closed()];
  const onError = (error) => errors.push([error.condition, error.pubsubCondition, error.message]);
  return { ...made, asked, errors, onError, locked: () => locked };
}

const NO = ["not-allowed", "closed-node", "The site does not let this user read /n"];

test("a private node is subscribed when the site has said yes", async (t) => {
  const { server, feed: node, asked, errors, onError } = privateFeed(t, { authorize: () => true });
  server.publish("1");
  const note = noting();
  node.add({ ...note, onError });
  await turn();
  server.publish("2");
  assert.deepEqual(asked, ["/n"]);
  assert.deepEqual(server.asked.slice(0, 2), ["subscribe", "subscribe"]);
  assert.deepEqual([note.heard, errors], [["s.1", ["s.1"], "s.2"], []]);
  assert.equal(node.isCatchingUp, false);
});

test("while the site is asked something may be missing", async (t) => {
  let say;
  const { feed: node } = privateFeed(t, { authorize: () => new Promise((resolve) => (say = resolve)) });
  node.add({ onError() {} });
  await turn();
  assert.equal(node.isCatchingUp, true);
  say(false);
  await turn();
  assert.equal(node.isCatchingUp, false);
});

test("a private node that the site does not open is an error until the next connection", async (t) => {
  let admits = false;
  const { server, feed: node, asked, errors, onError, locked } = privateFeed(t, { authorize: () => admits });
  const note = noting();
  node.add({ ...note, onError });
  await turn();
  await turn();
  assert.deepEqual([server.asked, asked, errors], [["subscribe"], ["/n"], [NO]]);
  assert.deepEqual([note.heard, locked()], [[], 0]); // what Django has rendered stays
  admits = true;
  server.answers = [closed()];
  server.lose();
  server.comeBack();
  await turn();
  assert.deepEqual(note.heard, [[]]);
  assert.deepEqual([asked.length, errors.length], [2, 1]);
});

test("a server that stays closed though the site has said yes is not asked for ever", async (t) => {
  const { server, feed: node, asked, errors, onError } = privateFeed(t, { authorize: () => true });
  server.answers = [closed(), closed()];
  node.add({ onError });
  await turn();
  await turn();
  assert.deepEqual([server.asked, asked.length], [["subscribe", "subscribe"], 1]);
  assert.deepEqual(errors, [["not-allowed", "closed-node", "not-allowed"]]);
});

test("for a guest the site is not asked", async (t) => {
  const { feed: node, asked, errors, onError } = privateFeed(t, { isGuest: true });
  node.add({ onError });
  await turn();
  assert.deepEqual(asked, []);
  assert.deepEqual(errors, [["not-allowed", "closed-node", "The site does not let guests read /n"]]);
});

test("an account for whom there is no site to ask is refused", async () => {
  const { server, feed: node } = feed();
  const errors = [];
  server.isGuest = false;
  server.answers = [closed()];
  node.add({ onError: ({ message }) => errors.push(message) });
  await turn();
  assert.deepEqual(errors, [NO[2]]);
});

test("a site that does not answer is asked again", async (t) => {
  t.mock.method(Math, "random", () => 0);
  const answers = [refusal("connection-failed", "wait"), refusal("connection-failed", "wait"), true];
  const authorize = async () => {
    const answer = answers.shift();
    if (answer instanceof Error) {
      throw answer;
    }
    return answer;
  };
  const { server, feed: node, asked, errors, onError } = privateFeed(t, { authorize });
  server.answers = [closed(), closed(), closed()];
  const note = noting();
  node.add({ ...note, onError });
  await turn();
  await turn();
  await turn();
  assert.deepEqual([asked.length, note.heard], [3, [[]]]);
  assert.deepEqual(errors, [["connection-failed", "", "connection-failed"]]);
});

test("who leaves, or comes to another connection, while the site is asked subscribes no more", async (t) => {
  let say;
  const { server, feed: node } = privateFeed(t, { authorize: () => new Promise((resolve) => (say = resolve)) });
  const listener = node.add({});
  await turn();
  await listener.unsubscribe();
  say(true);
  await turn();
  assert.deepEqual(server.asked, ["subscribe", "unsubscribe"]);
});

test("a right that is taken away takes along what was read, once, and given back brings it back", async (t) => {
  let admits = true;
  const { server, feed: node, asked, errors, onError, locked } = privateFeed(t, { authorize: () => admits });
  ["1", "2"].forEach((id) => server.publish(id));
  const note = noting();
  node.add({ ...note, onError });
  await turn();
  note.heard.length = 0;
  admits = false;
  server.answers = [closed()];
  node.receive({ kind: "end", node: "/n" });
  await turn();
  await turn();
  assert.deepEqual(note.heard, ["-1", "-2", []]);
  assert.deepEqual([errors, asked.length, locked()], [[NO], 2, 1]);
  assert.equal(node.isCatchingUp, false);
  note.heard.length = 0;
  server.answers = [closed()];
  server.lose();
  server.comeBack();
  await turn();
  assert.deepEqual([note.heard, locked()], [[], 1]);
  admits = true;
  server.answers = [closed()];
  node.add(noting());
  await turn();
  assert.deepEqual(note.heard, ["s.1", "s.2", ["s.1", "s.2"]]);
});

test("what came while the right was taken away is not told", async (t) => {
  const { server, feed: node, onError } = privateFeed(t, { authorize: () => false });
  server.answers = [];
  const note = noting();
  node.add({ ...note, onError });
  await turn();
  server.publish("1");
  server.answers = [null, () => server.publish("2"), closed()];
  server.lose();
  server.comeBack();
  await turn();
  assert.deepEqual(note.heard.slice(1), ["s.1", "-1", []]);
});

test("while nobody can say whether the right was given back, what was read is away", async (t) => {
  t.mock.method(Math, "random", () => 0);
  const answers = [refusal("connection-failed", "wait"), true];
  const authorize = async () => {
    const answer = answers.shift();
    if (answer instanceof Error) {
      throw answer;
    }
    return answer;
  };
  const { server, feed: node, onError, locked } = privateFeed(t, { authorize });
  server.answers = [];
  server.publish("1");
  const note = noting();
  node.add({ ...note, onError });
  await turn();
  note.heard.length = 0;
  server.answers = [closed(), closed()];
  node.receive({ kind: "end", node: "/n" });
  await turn();
  await turn();
  assert.deepEqual([note.heard.slice(0, 2), locked()], [["-1", []], 1]);
  assert.deepEqual(note.heard.slice(2), ["s.1"]);
});

test("an outcast, and who has signed out, lose what was read; who is refused for another reason does not", async (t) => {
  for (const [error, told] of [
    [refusal("forbidden", "auth"), ["-1", []]],
    [refusal("policy-violation"), []],
  ]) {
    const { server, feed: node, onError } = privateFeed(t);
    server.answers = [];
    server.publish("1");
    const note = noting();
    node.add({ ...note, onError });
    await turn();
    note.heard.length = 0;
    server.answers = [error];
    server.lose();
    server.comeBack();
    await turn();
    assert.deepEqual(note.heard, told);
  }
});

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { bundled } from "./bundle.js";
import { setGlobals } from "./globals.js";
import { channel, settled, Socket } from "./streams.js";

const VERSION = 3; // of Strophe's protocol between page and worker
const ATTACHED = 8;
const ADA = "ada@example.org/page";
const URL = "wss://example.org/ws";

let SharedConnection;

before(async () => {
  ({ SharedConnection } = await bundled(`export * from "./worker.js";`));
});

/** A worker, and a function that opens a tab. */
function worker(t) {
  setGlobals(t, { WebSocket: Socket });
  Socket.all = [];
  const manager = new SharedConnection();
  t.after(() => {
    clearInterval(manager._sweepTimer);
    clearTimeout(manager._graceTimer);
    manager._startGrace = () => {}; // when the ports are closed
  });
  return { manager, open: () => new Tab(t, manager) };
}

/** A tab that speaks to the worker as Strophe does, and notes what it hears. */
class Tab {
  heard = [];

  constructor(t, manager) {
    this.port = channel(t, manager);
    this.port.on("message", (data) => Array.isArray(data) && this.heard.push(data));
  }

  async say(...message) {
    this.port.postMessage(message);
    await settled(this.port);
    return this;
  }

  connect({ jid = ADA, version = VERSION } = {}) {
    return this.say("_connect", URL, jid, version);
  }

  /** Connects, and logs in. */
  async logIn(jid = ADA) {
    await this.connect({ jid });
    Socket.all.at(-1).open();
    return this.say("_bound", jid);
  }

  /** Of what it heard what matters: no pings, no roles. */
  async news() {
    await settled(this.port);
    return this.heard
      .filter(([method]) => !["_ping", "_role", "_promote", "log"].includes(method))
      .map(([method, detail]) => (method === "_onMessage" ? detail.data : method));
  }

  /** How often it was told that the stream has ended. */
  async ends() {
    return (await this.news()).filter((what) => what === "_onClose").length;
  }
}

/** The timers that are set from now on; they run when the test says so. */
function timers(t) {
  const set = [];
  t.mock.method(globalThis, "setTimeout", (callback) => set.push(callback));
  return set;
}

/** A worker with a stream that as many tabs share as asked for. */
async function shared(t, count) {
  const { manager, open } = worker(t);
  const tabs = [await open().logIn()];
  while (tabs.length < count) {
    tabs.push(await open().connect());
  }
  return { manager, open, tabs, socket: Socket.all[0] };
}

test("the first tab logs in, and those that come meanwhile join when it is done", async (t) => {
  const { open } = worker(t);
  const [first, second] = [open(), open()];
  await first.connect();
  await second.connect();
  const [socket] = Socket.all;
  socket.open();
  socket.receive("<features/>");
  assert.deepEqual(await first.news(), ["_onOpen", "<features/>"]);
  assert.deepEqual(await second.news(), []);
  await first.say("_bound", ADA);
  socket.receive("<message/>");
  assert.deepEqual(await first.news(), ["_onOpen", "<features/>", "<message/>"]);
  assert.deepEqual(await second.news(), ["_attachCallback", "<message/>"]);
  assert.deepEqual(
    second.heard.find(([method]) => method === "_attachCallback"),
    ["_attachCallback", ATTACHED, ADA],
  );
  assert.equal(Socket.all.length, 1);
});

test("a tab that has to wait hears at once that somebody is there", async (t) => {
  const { open } = worker(t);
  await open().connect();
  const second = await open().connect();
  assert.deepEqual(second.heard[0], ["_ping"]);
});

test("a tab with another address joins, and throws nobody out", async (t) => {
  const { open, tabs } = await shared(t, 2);
  const guest = await open().connect({ jid: "guest-1@guests.example.org/page" });
  assert.deepEqual(guest.heard.at(-1), ["_attachCallback", ATTACHED, ADA]);
  assert.equal(Socket.all.length, 1);
  for (const tab of tabs) {
    assert.equal(await tab.ends(), 0);
  }
});

test("what a tab sends goes out once", async (t) => {
  const { tabs, socket } = await shared(t, 2);
  await tabs[1].say("send", "<iq/>");
  assert.deepEqual(socket.sent, ["<iq/>"]);
});

test("a tab that goes takes nothing away from the others", async (t) => {
  const { tabs, socket } = await shared(t, 3);
  await tabs[0].say("_bye"); // the one that has logged in
  socket.receive("<message/>");
  for (const tab of tabs.slice(1)) {
    assert.deepEqual(await tab.news(), ["_attachCallback", "<message/>"]);
  }
});

test("when the connection is lost every tab is told, once", async (t) => {
  const { tabs, socket } = await shared(t, 3);
  socket.lose("gone");
  for (const tab of tabs) {
    assert.equal(await tab.ends(), 1);
  }
});

test("a tab that finds the stream dead ends it for all, and the next one opens another", async (t) => {
  const { open, tabs, socket } = await shared(t, 3);
  await tabs[2].say("_closeSocket");
  assert.equal(socket.readyState, Socket.CLOSING);
  for (const tab of tabs) {
    assert.equal(await tab.ends(), 1);
  }
  await open().logIn();
  assert.equal(Socket.all.length, 2);
});

test("a tab of a stream that has ended hears and says nothing in the next one", async (t) => {
  const { open, tabs, socket } = await shared(t, 2);
  socket.lose();
  const next = await open().logIn();
  const [, stream] = Socket.all;
  await tabs[0].say("_closeSocket"); // as one that has not read the news yet
  await tabs[1].say("send", "<iq/>");
  stream.receive("<message/>");
  assert.equal(stream.readyState, Socket.OPEN);
  assert.deepEqual(stream.sent, []);
  assert.equal(await next.ends(), 0);
  for (const tab of tabs) {
    assert.equal(await tab.ends(), 2);
    assert.ok(!(await tab.news()).includes("<message/>"));
  }
});

test("who opens the next stream while the last one is just closing tells the others", async (t) => {
  const { open, tabs, socket } = await shared(t, 2);
  socket.readyState = Socket.CLOSING; // the server's goodbye has come, and no more yet
  await open().connect();
  assert.equal(Socket.all.length, 2);
  for (const tab of tabs) {
    assert.equal(await tab.ends(), 1);
  }
});

for (const [what, message] of [
  ["goes", "_bye"],
  ["is frozen", "_relinquish"],
]) {
  test(`when the tab that logs in ${what}, those that wait are told`, async (t) => {
    const { open } = worker(t);
    const [first, second] = [open(), open()];
    await first.connect();
    await second.connect();
    await first.say(message);
    assert.equal(await second.ends(), 1);
    await second.logIn();
    assert.equal(Socket.all.length, 2);
  });
}

test("a tab that is frozen stays, and hears later what it has missed", async (t) => {
  const { tabs, socket } = await shared(t, 2);
  await tabs[0].say("_relinquish");
  socket.receive("<message/>");
  await tabs[0].say("_pong");
  assert.deepEqual(await tabs[0].news(), ["_onOpen", "<message/>"]);
});

test("a tab that was given up for its silence is told, and told again when it speaks", async (t) => {
  const { manager, tabs, socket } = await shared(t, 2);
  const [info] = manager.ports.values();
  info.lastSeen = 0;
  manager._sweep();
  assert.equal(await tabs[0].ends(), 1);
  socket.receive("<message/>");
  await tabs[0].say("_pong");
  assert.equal(await tabs[0].ends(), 2);
  assert.deepEqual(await tabs[1].news(), ["_attachCallback", "<message/>"]);
});

test("when no tab has given a sign of life for a while, all are told and the server is left", async (t) => {
  const { manager, open, tabs, socket } = await shared(t, 2);
  const set = timers(t);
  manager.ports.forEach((info) => (info.lastSeen -= 75_000));
  manager._sweep();
  for (const tab of tabs) {
    assert.equal(await tab.ends(), 1);
  }
  set[0]();
  assert.equal(socket.sent.length, 1);
  await open().logIn();
  assert.equal(Socket.all.length, 2);
});

test("a tab that is frozen for as long while others are awake stays", async (t) => {
  const { manager, tabs } = await shared(t, 2);
  manager.ports.values().next().value.lastSeen -= 75_000;
  manager._sweep();
  assert.equal(await tabs[0].ends(), 0);
});

test("a page that speaks another protocol leaves nobody unaware", async (t) => {
  const { open, tabs } = await shared(t, 2);
  const old = await open().connect({ version: VERSION - 1 });
  assert.equal(await old.ends(), 1);
  assert.equal(await tabs[0].ends(), 0);
  const closed = t.mock.fn();
  setGlobals(t, { close: closed });
  const renewed = await open().connect({ version: VERSION + 1 });
  for (const tab of [renewed, ...tabs]) {
    assert.equal(await tab.ends(), 1);
  }
  assert.equal(closed.mock.callCount(), 1); // so that the next page gets a new worker
});

// The end

test("when all tabs have gone for a while the server is told goodbye", async (t) => {
  const { open, tabs, socket } = await shared(t, 2);
  const set = timers(t);
  await tabs[0].say("_bye");
  assert.equal(set.length, 0);
  await tabs[1].say("_bye");
  assert.deepEqual(socket.sent, []);
  set[0]();
  assert.deepEqual(socket.sent, ['<close xmlns="urn:ietf:params:xml:ns:xmpp-framing"/>']);
  assert.equal(socket.readyState, Socket.OPEN); // the server closes
  await open().connect();
  assert.equal(Socket.all.length, 2);
});

test("a server that does not answer the goodbye is left", async (t) => {
  const { tabs, socket } = await shared(t, 1);
  const set = timers(t);
  await tabs[0].say("_bye");
  set[0]();
  set[1]();
  assert.equal(socket.readyState, Socket.CLOSING);
});

test("a tab that comes before that finds the stream as it was", async (t) => {
  const { manager, open, tabs, socket } = await shared(t, 1);
  await tabs[0].say("_bye");
  const next = await open().connect();
  assert.equal(manager._graceTimer, null);
  socket.receive("<message/>");
  assert.deepEqual(await next.news(), ["_attachCallback", "<message/>"]);
});

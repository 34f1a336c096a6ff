import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { before, test } from "node:test";

import { bundled } from "./bundle.js";
import { documents } from "./dom.js";
import { setGlobals } from "./globals.js";
import { installLocks } from "./locks.js";
import { channel, settled, Socket } from "./streams.js";

globalThis.crypto ??= webcrypto;
installLocks();

/** What a page runs, and what it runs after a deploy that has changed the worker. */
let sharing, renewed;

before(async () => {
  const text = `export * from "./sharing.js"; export * from "./worker.js";`;
  const define = (build) => ({ define: { WORKER_BUILD: JSON.stringify(build) } });
  [sharing, renewed] = await Promise.all([bundled(text, define("1")), bundled(text, define("2"))]);
});

/** A page that may have a worker; `missing` says what its browser lacks. */
function onPage(t, missing) {
  const { subtle } = crypto;
  setGlobals(t, {
    SharedWorker: missing === "SharedWorker" ? undefined : class {},
    crypto: missing === "crypto.subtle" ? {} : { subtle },
    document: { baseURI: "https://example.org/page/" },
    location: { origin: "https://example.org" },
    navigator: missing === "navigator.locks" ? {} : navigator,
  });
}

const CONFIG = { workerUrl: "/static/pubsub/pubsub.worker.js" };
const WEBSOCKET = "wss://example.org/ws";

// The address

test("each visitor's worker has an address of its own, which tells nothing of him", async (t) => {
  onPage(t);
  const url = await sharing.workerUrl(CONFIG, WEBSOCKET, "guest");
  assert.match(url, /^https:\/\/example\.org\/static\/pubsub\/pubsub\.worker\.js#[\w-]{22}$/);
  assert.equal(await sharing.workerUrl(CONFIG, WEBSOCKET, "guest"), url);
  assert.notEqual(await sharing.workerUrl(CONFIG, WEBSOCKET, "ada@example.org"), url);
  assert.notEqual(await sharing.workerUrl(CONFIG, "wss://example.org/other", "guest"), url);
});

test("a page of another build has another worker", async (t) => {
  onPage(t);
  const [old, now] = [sharing, renewed].map((build) => build.workerUrl(CONFIG, WEBSOCKET, "guest"));
  assert.notEqual(await old, await now);
});

test("tabs do not share where the browser cannot, or the site does not offer it", async (t) => {
  for (const missing of ["SharedWorker", "navigator.locks", "crypto.subtle"]) {
    await t.test(missing, async (without) => {
      onPage(without, missing);
      assert.equal(await sharing.workerUrl(CONFIG, WEBSOCKET, "guest"), undefined);
    });
  }
  onPage(t);
  assert.equal(await sharing.workerUrl({}, WEBSOCKET, "guest"), undefined);
});

test("a worker of another origin than the page's is not asked for", async (t) => {
  onPage(t);
  const config = { workerUrl: "https://static.example.org/pubsub.worker.js" };
  assert.equal(await sharing.workerUrl(config, WEBSOCKET, "guest"), undefined);
});

// The stream

const WORKER = "https://example.org/pubsub.worker.js#1";
const [CONNECTING, CONNFAIL, AUTHFAIL, CONNECTED, DISCONNECTED, ATTACHED] = [1, 2, 4, 5, 6, 8];
const FEATURES =
  `<stream:features xmlns:stream="http://etherx.jabber.org/streams">` +
  `<mechanisms xmlns="urn:ietf:params:xml:ns:xmpp-sasl"><mechanism>PLAIN</mechanism></mechanisms>` +
  `</stream:features>`;
const BIND =
  `<stream:features xmlns:stream="http://etherx.jabber.org/streams">` +
  `<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"/></stream:features>`;
const OPEN = `<open xmlns="urn:ietf:params:xml:ns:xmpp-framing" version="1.0"/>`;
const SUCCESS = `<success xmlns="urn:ietf:params:xml:ns:xmpp-sasl"/>`;
const FAILURE = `<failure xmlns="urn:ietf:params:xml:ns:xmpp-sasl"><not-authorized/></failure>`;
const bound = (jid) =>
  `<iq xmlns="jabber:client" type="result" id="_bind_auth_2">` +
  `<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"><jid>${jid}</jid></bind></iq>`;

/** A browser: a function that opens a tab, and what its server may do. */
function browser(t) {
  const workers = new Map();
  const ports = [];
  Socket.all = [];
  const connect = (url) => {
    if (!workers.has(url)) {
      const manager = new sharing.SharedConnection();
      workers.set(url, manager);
      t.after(() => {
        clearInterval(manager._sweepTimer);
        clearTimeout(manager._graceTimer);
        manager._startGrace = () => {}; // when the ports are closed
      });
    }
    const port = channel(t, workers.get(url));
    ports.push(port);
    return port;
  };
  setGlobals(t, {
    ...documents,
    WebSocket: Socket,
    SharedWorker: class {
      constructor(url) {
        this.port = connect(url);
      }
    },
  });
  const arrived = () => settled(...ports);
  /** Lets the server say something, and everybody hear it. */
  const say = async (text) => {
    Socket.all.at(-1).receive(text);
    await arrived();
  };
  const logIn = async (jid) => {
    await arrived();
    Socket.all.at(-1).open();
    await arrived();
    for (const text of [OPEN, FEATURES, SUCCESS, OPEN, BIND, bound(jid)]) {
      await say(text);
    }
  };
  return { open: (jid) => new Tab(t, jid), say, logIn, arrived };
}

/** A tab of it, and what is reported to it. */
class Tab {
  #told = [];
  messages = [];
  stream = new sharing.SharedStream(WEBSOCKET, { guest: true }, WORKER);

  constructor(t, jid) {
    t.after(() => clearTimeout(this.stream._idleTimeout));
    const onMessage = (message) => this.messages.push(message.getAttribute("id"));
    this.stream.addHandler(onMessage, null, "message", null);
    if (jid) {
      this.stream.connect(jid, "password", (status) => this.#told.push(status));
    }
  }

  /** What decides, not what goes on. */
  get told() {
    return this.#told.filter((status) => status !== CONNECTING);
  }
}

const MESSAGE = `<message xmlns="jabber:client" id="m"/>`;
const GUESTS = ["a@guests.example.org/page", "b@guests.example.org/page"];

test("the first tab logs in, the next ones join under its address, and all hear the same", async (t) => {
  const { open, say, logIn, arrived } = browser(t);
  const pages = GUESTS.map(open);
  await logIn(GUESTS[0]);
  pages.push(open(GUESTS[1]));
  await arrived();
  await say(MESSAGE);
  assert.deepEqual(pages.map(({ told }) => told), [[CONNECTED], [ATTACHED], [ATTACHED]]);
  assert.deepEqual(pages.map(({ stream }) => stream.jid), [GUESTS[0], GUESTS[0], GUESTS[0]]);
  assert.deepEqual(pages.map(({ messages }) => messages), [["m"], ["m"], ["m"]]);
  assert.equal(Socket.all.length, 1);
});

test("what any tab sends goes out", async (t) => {
  const { open, logIn, arrived } = browser(t);
  const [, second] = GUESTS.map(open);
  await logIn(GUESTS[0]);
  const { documentElement } = new documents.DOMParser().parseFromString(MESSAGE, "text/xml");
  second.stream.send(documentElement);
  await arrived();
  assert.equal(Socket.all[0].sent.at(-1), MESSAGE);
});

test("a tab that joins when the others have just gone hears what comes then", async (t) => {
  const { open, say, logIn, arrived } = browser(t);
  const first = open(GUESTS[0]);
  await logIn(GUESTS[0]);
  first.stream.leave();
  await arrived();
  const second = open(GUESTS[1]);
  await arrived();
  await say(MESSAGE);
  assert.deepEqual(second.told, [ATTACHED]);
  assert.deepEqual(second.messages, ["m"]);
});

for (const how of ["leave", "disconnect"]) {
  test(`nothing is reported to a tab after ${how}(), and the others stay`, async (t) => {
    const { open, say, logIn, arrived } = browser(t);
    const [first, second] = GUESTS.map(open);
    await logIn(GUESTS[0]);
    first.stream[how]();
    await arrived();
    await say(MESSAGE);
    assert.deepEqual([first.told, first.messages], [[CONNECTED], []]);
    assert.deepEqual([second.told, second.messages], [[ATTACHED], ["m"]]);
    assert.equal(Socket.all[0].readyState, Socket.OPEN);
  });
}

test("a tab may leave before it has connected, and twice", (t) => {
  const { stream } = browser(t).open();
  stream.leave();
  stream.leave();
  assert.equal(stream.heard, false);
});

test("a stream that one tab finds dead ends for all of them", async (t) => {
  const { open, logIn, arrived } = browser(t);
  const [first, second] = GUESTS.map(open);
  await logIn(GUESTS[0]);
  second.stream.closeForAll();
  await arrived();
  assert.deepEqual(first.told, [CONNECTED, DISCONNECTED]);
  assert.deepEqual(second.told, [ATTACHED]); // it knows
  assert.equal(Socket.all[0].readyState, Socket.CLOSING);
});

test("a lost connection is reported to all tabs, also to one that still waits", async (t) => {
  const { open, logIn, arrived } = browser(t);
  const [first] = GUESTS.map(open);
  await logIn(GUESTS[0]);
  Socket.all[0].lose();
  await arrived();
  assert.deepEqual(first.told, [CONNECTED, DISCONNECTED]);
  const waiting = GUESTS.map(open);
  await arrived();
  Socket.all[1].lose();
  await arrived();
  assert.deepEqual(waiting.map(({ told }) => told), Array(2).fill([CONNFAIL, DISCONNECTED]));
});

test("a tab that learns late of the end does not end what the others have begun", async (t) => {
  const { open, logIn, arrived } = browser(t);
  const [first, second] = GUESTS.map(open);
  await logIn(GUESTS[0]);
  Socket.all[0].lose();
  const third = open(GUESTS[1]); // before the others have read that it is lost
  await logIn(GUESTS[1]);
  await arrived();
  assert.deepEqual([first, second, third].map(({ told }) => told.at(-1)), [
    DISCONNECTED,
    DISCONNECTED,
    CONNECTED,
  ]);
  assert.equal(Socket.all[1].readyState, Socket.OPEN);
});

test("a refused login is reported to the tab that tried it, the others are to try it", async (t) => {
  const { open, say, arrived } = browser(t);
  const [first, second] = GUESTS.map(open);
  await arrived();
  Socket.all[0].open();
  for (const text of [OPEN, FEATURES, FAILURE]) {
    await say(text);
  }
  assert.deepEqual([first.told, second.told], [[AUTHFAIL], []]);
  first.stream.disconnect();
  await arrived();
  assert.deepEqual(second.told, [CONNFAIL, DISCONNECTED]);
});

test("a frozen tab goes on where it was, or is told that it cannot", async (t) => {
  const { open, logIn, arrived } = browser(t);
  const [first, second] = GUESTS.map(open);
  await logIn(GUESTS[0]);
  first.stream.freeze();
  await arrived();
  assert.equal(second.stream.role, "primary");
  first.stream.thaw();
  await arrived();
  assert.deepEqual(first.told, [CONNECTED]);
  second.stream.closeForAll();
  second.stream.thaw(); // too late, and harmless
  first.stream.thaw();
  await arrived();
  assert.deepEqual(first.told, [CONNECTED, DISCONNECTED]);
});

test("a tab knows whether its worker has said anything", async (t) => {
  const { open, arrived } = browser(t);
  const { stream } = open(GUESTS[0]);
  assert.equal(stream.heard, false);
  await arrived();
  assert.equal(stream.heard, true);
});

test("a worker that the browser refuses cannot be had", async (t) => {
  const { open } = browser(t);
  setGlobals(t, { SharedWorker: undefined });
  const { stream } = open(GUESTS[0]);
  await new Promise((resolve) => (stream.onworkererror = resolve));
});

// What a shared worker has around it: sockets, and tabs at the other ends of real message channels.

import { MessageChannel } from "node:worker_threads";

const MARK = "mark";
/** By the tabs' ports: who waits for marks to come back, and what resolves when the port is closed. */
const known = new WeakMap();

/** A WebSocket that does what the test says; put it in the place of the global one. */
export class Socket {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;
  /** @type {Socket[]} all that were made, to be emptied by each test */
  static all = [];

  readyState = Socket.CONNECTING;
  sent = [];

  constructor(url, protocol) {
    Object.assign(this, { url, protocol });
    Socket.all.push(this);
  }

  send(data) {
    this.sent.push(data);
  }

  /** By the page: "close" follows only when the server has answered, or never. */
  close() {
    this.readyState = Socket.CLOSING;
  }

  open() {
    this.readyState = Socket.OPEN;
    this.onopen();
  }

  receive(data) {
    this.onmessage?.({ data });
  }

  lose(reason = "") {
    this.readyState = Socket.CLOSED;
    this.onerror?.(new Event("error"));
    this.onclose?.({ reason });
  }
}

/**
 * A message channel to a manager of ports.
 * @param {import("node:test").TestContext} t  closes it
 * @param {{addPort(port: object): void}} manager
 */
export function channel(t, manager) {
  const { port1, port2 } = new MessageChannel();
  t.after(() => port1.close());
  const waiting = [];
  port1.on("message", (data) => data === MARK && waiting.shift()());
  known.set(port1, { waiting, gone: new Promise((resolve) => port2.on("close", resolve)) });
  port2.on("message", (data) => data === MARK && port2.postMessage(MARK));
  manager.addPort({
    addEventListener: (type, listener) => {
      port2.on(type, (data) => data === MARK || listener({ data }));
    },
    start() {},
    postMessage: (data) => port2.postMessage(data),
  });
  return port1;
}

/**
 * Resolves when all that was posted so far has arrived, at the manager and at these ports.
 * @param {...import("node:worker_threads").MessagePort} ports
 */
export async function settled(...ports) {
  for (let round = 0; round < 2; round++) {
    await Promise.all(ports.map(echo));
  }
}

/** @param {import("node:worker_threads").MessagePort} port */
function echo(port) {
  const { waiting, gone } = known.get(port);
  const echoed = new Promise((resolve) => waiting.push(resolve));
  port.postMessage(MARK);
  return Promise.race([echoed, gone]);
}

// The shared worker: one WebSocket for all tabs of a browser that log in as the same visitor.

import ConnectionManager from "strophe.js/src/shared-connection-worker";

const manager = new ConnectionManager();

Object.assign(globalThis, {
  /** @param {MessageEvent} event */
  onconnect: ({ ports: [port] }) => manager.addPort(port),
});

// The shared worker's script: one WebSocket for all tabs of a browser that are the same visitor.

import ConnectionManager, {
  PORT_GC_TIMEOUT,
  PRIMARY_TIMEOUT,
} from "strophe.js/src/shared-connection-worker";

/**
 * How long a stream that nobody uses is kept, in milliseconds: so that the page that takes another's
 * place in the only tab finds it, where the browser lets the worker live that long, and no longer,
 * because who has left for good is to leave nothing behind on the server.
 */
const GRACE = 2_000;
/** How long the server may take for its goodbye. */
const GOODBYE_LIMIT = 2_000;
const CLOSE = '<close xmlns="urn:ietf:params:xml:ns:xmpp-framing"/>';

/**
 * Strophe's manager, where it would leave a tab with a stale page.
 *
 * The law: who is not in `ports` belongs to no stream and has been told so, by "_onClose". So when a
 * stream ends, for whatever reason, all of them are told and put out of `ports`, and each comes in
 * again by connecting anew, after which it catches up.
 */
export class SharedConnection extends ConnectionManager {
  /**
   * Nobody is let in again who was put out: he has missed what the others were told meanwhile.
   * @override
   * @param {MessagePort} port
   * @param {MessageEvent} event
   */
  _onPortMessage(port, event) {
    const [method] = event.data;
    if (method === "_connect" || this.ports.has(port)) {
      super._onPortMessage(port, event);
    } else if (method !== "_bye") {
      this._post(port, "_onClose", "The stream has ended meanwhile");
    }
  }

  /**
   * Joins the stream that there is, under whichever address it is; the worker's own address says
   * whose it is. Strophe would throw out the tabs of another address.
   * @override
   * @param {MessagePort} port
   * @param {string} service
   * @param {string} jid
   * @param {number} [version]
   */
  _connect(port, service, jid, version) {
    this._post(port, "_ping"); // somebody is here, even if it has to wait
    const live = this._socketLive();
    if (!live) {
      this.#dismiss("The stream has ended", port); // they may not know, if it is just closing
    }
    super._connect(port, service, live ? this.jid : jid, version);
  }

  /**
   * A tab has found the stream dead: it is for all, and all have to catch up.
   * @override
   * @param {MessagePort} [port]  none when Strophe itself closes the socket
   */
  _closeSocket(port) {
    super._closeSocket();
    if (port) {
      this.#dismiss("A tab has found the stream dead");
    }
  }

  /** The socket's "close" follows. Strophe would post the event, which cannot be copied. @override */
  _onError() {}

  /**
   * Tabs answer when they are asked for a sign of life, also hidden ones. Where none does they have
   * crashed, or all are frozen, or the machine has slept; one among others may be frozen for long.
   * @override
   */
  _sweep() {
    const tabs = [...this.ports];
    const silent = (/** @type {number} */ limit) =>
      tabs.filter(([, { lastSeen }]) => Date.now() - lastSeen > limit);
    const all = silent(PRIMARY_TIMEOUT);
    for (const [port] of all.length === tabs.length ? all : silent(PORT_GC_TIMEOUT)) {
      this._bye(port);
      this._post(port, "_onClose", "This tab was silent for too long");
    }
    super._sweep();
  }

  /** @override */
  _startGrace() {
    this._graceTimer ??= setTimeout(() => {
      this._graceTimer = null;
      this.#hangUp();
    }, GRACE);
  }

  /** @override @param {...unknown} message */
  _broadcast(...message) {
    for (const port of [...this.ports.keys()]) {
      this._post(port, ...message);
    }
  }

  /** @override @param {MessagePort} port @param {...unknown} message */
  _post(port, ...message) {
    super._post(port, ...message);
    if (message[0] === "_onClose") {
      this.ports.delete(port);
    }
  }

  // Private

  /**
   * @param {string} reason
   * @param {MessagePort} [but]
   */
  #dismiss(reason, but) {
    for (const port of [...this.ports.keys()].filter((other) => other !== but)) {
      this._post(port, "_onClose", reason);
    }
  }

  /** Says goodbye, and lets the server close (RFC 7395 §3.6). */
  #hangUp() {
    const { socket } = this;
    this.socket = null;
    this.session = "none";
    if (socket?.readyState === WebSocket.OPEN) {
      const limit = setTimeout(() => socket.close(), GOODBYE_LIMIT);
      socket.onmessage = null;
      socket.onclose = () => clearTimeout(limit);
      socket.send(CLOSE);
    }
  }
}

/** @type {SharedConnection | undefined} */
let connection;

Object.assign(globalThis, {
  /** @param {MessageEvent} event */
  onconnect({ ports: [port] }) {
    connection ??= new SharedConnection();
    connection.addPort(port);
  },
});

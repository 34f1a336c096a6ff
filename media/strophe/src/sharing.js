// One connection for all tabs of a browser: which worker holds it, a tab's end of it, and which
// nodes some tab still listens to.

/* global WORKER_BUILD */

import { Strophe } from "strophe.js";

import { SaslConnection } from "./sasl.js";

const WorkerWebsocket = /** @type {typeof StropheWorkerWebsocket} */ (
  /** @type {unknown} */ (Strophe.WorkerWebsocket)
);

/**
 * The address of the worker for one visitor: each address has a worker of its own.
 *
 * What follows "#" is told to no server. It depends on the build, too: a worker lives on while any
 * tab is there, and a page that a deploy has renewed must not meet the worker of an old one.
 *
 * @param {{workerUrl?: string}} config
 * @param {string} websocketUrl
 * @param {string} identity  the same in all tabs that may share a login, and in no others
 * @returns {Promise<string | undefined>} undefined where tabs cannot share
 */
export async function workerUrl(config, websocketUrl, identity) {
  const able = typeof SharedWorker === "function" && navigator.locks && crypto.subtle;
  if (!config.workerUrl || !able) {
    return undefined;
  }
  const url = new URL(config.workerUrl, document.baseURI);
  if (url.origin !== location.origin) {
    return undefined; // browsers refuse it
  }
  url.hash = await fingerprint(`${WORKER_BUILD}\n${websocketUrl}\n${identity}`);
  return url.href;
}

/**
 * A tab's end of the stream that a shared worker holds.
 *
 * connect() logs in if no other tab has, and reports CONNECTED; else it joins the stream as it is,
 * whoever has logged in, and reports ATTACHED. Either way `jid` is the address of them all then.
 * When the stream ends, for whatever reason, DISCONNECTED is reported to every tab, or CONNFAIL to
 * one that still waits; then each must connect anew, with a new SharedStream.
 */
export class SharedStream extends SaslConnection {
  /**
   * The worker's script could not be loaded.
   * @type {() => void}
   */
  onworkererror = () => {};
  #line;

  /**
   * @param {string} url
   * @param {{guest: boolean}} who
   * @param {string} worker  its address
   */
  constructor(url, who, worker) {
    super(url, who);
    this.#line = new Line(this, worker);
    this._proto = /** @type {any} */ (this.#line);
    this.options.worker = worker; // Strophe has something to tell it when the login is done
  }

  /** Whether the worker has said anything. */
  get heard() {
    return this.#line.heard;
  }

  /** This tab goes, and nothing more is reported to it; the others stay. */
  leave() {
    this.connect_callback = null;
    this.connected = false;
    this.#line.leave();
  }

  /** As leave(): a tab must not end the stream of the others. @override */
  disconnect() {
    this.leave();
  }

  /** The stream is dead, or nobody answers: no tab may rely on it any longer. This one leaves. */
  closeForAll() {
    this.#line.post("_closeSocket");
    this.leave();
  }

  /** The browser is about to stop this tab for a while. */
  freeze() {
    this.#line.post("_relinquish");
  }

  /** This tab goes on. If it was given up meanwhile, it is told that the stream has ended. */
  thaw() {
    this.#line.post("_pong");
  }
}

/**
 * Which nodes are listened to by any tab of one shared stream, which is subscribed to them once.
 *
 * A tab that listens holds the node's Web Lock in shared mode. Who can have it alone is the last,
 * and while he unsubscribes nobody else begins. Steps for one node follow each other.
 */
export class Interests {
  #scope;
  /** @type {Map<string, () => Promise<unknown>>} what gives up the lock of a node */
  #held = new Map();
  /** @type {Map<string, Promise<void>>} the last step of a node, while there is one */
  #last = new Map();

  /** @param {string} scope  of the shared stream */
  constructor(scope) {
    this.#scope = scope;
  }

  /**
   * Resolves when this tab counts as one that listens; only then it may subscribe.
   * @param {string} node
   */
  hold(node) {
    return this.#then(node, () => this.#acquire(node));
  }

  /**
   * This tab listens no longer, if it did.
   * @param {string} node
   * @param {() => Promise<unknown>} ifLast  called if no other tab does
   */
  release(node, ifLast) {
    return this.#then(node, async () => {
      await this.#giveUp(node);
      const alone = { ifAvailable: true };
      await navigator.locks.request(this.#name(node), alone, (lock) => lock && ifLast());
    });
  }

  /** This tab goes: it listens to nothing, and unsubscribes from nothing. */
  releaseAll() {
    for (const node of new Set([...this.#held.keys(), ...this.#last.keys()])) {
      this.#then(node, () => this.#giveUp(node));
    }
  }

  // Private

  /** @param {string} node */
  #name(node) {
    return `pubsub ${this.#scope} ${node}`;
  }

  /**
   * @param {string} node
   * @param {() => Promise<void>} step
   */
  #then(node, step) {
    const done = (this.#last.get(node) ?? Promise.resolve()).then(step);
    const settled = done
      .catch(() => {}) // whoever asked for it hears of it
      .then(() => {
        if (this.#last.get(node) === settled) {
          this.#last.delete(node);
        }
      });
    this.#last.set(node, settled);
    return done;
  }

  /** @param {string} node @returns {Promise<void>} */
  async #acquire(node) {
    if (this.#held.has(node)) {
      return;
    }
    await new Promise((resolve, reject) => {
      const released = navigator.locks.request(this.#name(node), { mode: "shared" }, () => {
        resolve(undefined);
        return new Promise((letGo) => {
          this.#held.set(node, () => {
            letGo(undefined);
            return released;
          });
        });
      });
      released.catch(reject);
    });
  }

  /** @param {string} node */
  async #giveUp(node) {
    const letGo = this.#held.get(node);
    this.#held.delete(node);
    await letGo?.();
  }
}

// Private

/** Where the browser can, the worker lives on from one page to the next in the only tab. */
const WORKER_OPTIONS = /** @type {WorkerOptions} */ ({ name: "django-pubsub", extendedLifetime: true });

/**
 * Strophe's way to a shared worker, with other ends: the page tells it what happens to the page,
 * and no end of this tab's stream is one of the others'.
 */
class Line extends WorkerWebsocket {
  heard = false;
  #stream;
  #url;

  /**
   * @param {SharedStream} stream
   * @param {string} url  of the worker
   */
  constructor(stream, url) {
    super(stream);
    this.#stream = stream;
    this.#url = url;
  }

  /** @override */
  _connect() {
    const failed = () => this.#stream.onworkererror();
    try {
      this.worker = new SharedWorker(this.#url, WORKER_OPTIONS);
    } catch {
      queueMicrotask(failed); // no worker may be had here
      return;
    }
    this.worker.onerror = failed;
    super._connect();
  }

  /** @param {string} message */
  post(message) {
    this.worker?.port.postMessage([message]);
  }

  leave() {
    this.post("_bye");
    if (this.worker) {
      this.worker.onerror = this.worker.port.onmessage = null;
      this.worker.port.close();
    }
  }

  /** Strophe would start a worker before there is anything to say to it. @override */
  _initWorker() {}

  /** @override */
  _attachLifecycleListeners() {}

  /** @override @param {MessageEvent} event */
  _onWorkerMessage(event) {
    this.heard = true;
    super._onWorkerMessage(event);
  }

  /**
   * The stream was joined: what comes now is no part of a login, whatever this tab's role.
   * @override
   * @param {number} status
   * @param {string} [jid]
   */
  _attachCallback(status, jid) {
    this._replaceMessageHandler();
    super._attachCallback(status, jid);
  }

  /** Strophe has done with the stream, for this tab. @override */
  _closeSocket() {
    this.leave();
  }
}

/** @param {string} text @returns {Promise<string>} 22 characters of its SHA-256, as base64url */
async function fingerprint(text) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  const base64 = btoa(String.fromCharCode(...new Uint8Array(digest)));
  return base64.replace(/\+/g, "-").replace(/\//g, "_").slice(0, 22);
}

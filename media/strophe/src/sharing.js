// One connection for all tabs of a browser: which worker holds it, and a tab's end of it.

/* global WORKER_BUILD */

import { Strophe } from "strophe.js";

import { fingerprint } from "./digest.js";
import { SaslConnection } from "./sasl.js";

const WorkerWebsocket = /** @type {typeof StropheWorkerWebsocket} */ (
  /** @type {unknown} */ (Strophe.WorkerWebsocket)
);

/** What Strophe's worker says to those who waited for another tab's login. */
export const DESERTED = /driving tab went away/;

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
    this.listen(this.#line);
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

import { backoff } from "./backoff.js";
import { isConfidential, isWebSocket } from "./config.js";
import { PubSubError } from "./errors.js";
import { report } from "./report.js";
import { Session } from "./session.js";
import { presence } from "./stanzas.js";

/** @typedef {"connecting" | "online" | "offline" | "denied"} State */
/** @typedef {import("./stanzas.js").Request} Request */

const RECENT = 5_000;
const SILENCE = 60_000;
const STEADY = 30_000;

/**
 * Keeps one login alive: opens a session, opens another when it is lost, stops when it is denied.
 *
 * Knows nothing of nodes. Every session is a new one for the server, so whoever listens to
 * `onOnline` renews there what must be renewed.
 */
export class Connection {
  /** @type {State} */
  #state = "offline";
  /** @type {Session | null} */
  #session = null;
  #wanted = false;
  #attempt = 0;
  #since = 0;
  #outage = false;
  /** A session made by the server cannot be made again here: the page must fetch a new one. */
  #spent = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #watch;
  #url;
  #credentials;
  #hooks;
  #ready;

  /**
   * @param {URL} url
   * @param {import("./credentials.js").Credentials} credentials
   * @param {object} hooks
   * @param {() => void} hooks.onOnline
   * @param {(message: Element) => void} hooks.onMessage
   * @param {(state: State) => void} hooks.onState
   * @param {Promise<unknown>} [ready]  no session is opened before it is resolved
   */
  constructor(url, credentials, hooks, ready = Promise.resolve()) {
    if (credentials.kind === "account" && !isConfidential(url)) {
      throw new Error(`A password is sent over TLS only, and ${url.href} has none`);
    }
    this.#url = url;
    this.#credentials = credentials;
    this.#hooks = hooks;
    this.#ready = ready;
  }

  get state() {
    return this.#state;
  }

  /** The address for which the server keeps our subscriptions, once online. */
  get subscriber() {
    const jid = this.#session?.jid ?? "";
    return this.#credentials.byBareJid ? jid.replace(/\/.*$/s, "") : jid;
  }

  /** Whether subscriptions belong to this session alone, not to all sessions of an account. */
  get ownsSubscriptions() {
    return !this.#credentials.byBareJid;
  }

  open() {
    this.#wanted = true;
    this.#attempt = 0;
    this.#connect();
  }

  /** Ends it for good. */
  close() {
    this.#wanted = false;
    this.#drop((session) => session.close());
  }

  /** The page is being left; it may come back out of the browser's cache. */
  suspend() {
    this.#drop((session) => session.leave());
  }

  /** The page is back, or the network, or the visitor: no need to wait any longer. */
  wake() {
    if (this.#session) {
      this.#session.probe(RECENT);
    } else if (this.#wanted) {
      this.#attempt = 0;
      this.#connect();
    }
  }

  /**
   * Asks, and waits for the answer.
   * @param {string} to
   * @param {Request} request
   * @returns {Promise<Element>} rejects with a PubSubError
   */
  request(to, request) {
    return this.#session && this.#state === "online"
      ? this.#session.request(to, request)
      : Promise.reject(new PubSubError(`Not connected: ${this.#state}`, { condition: "disconnected" }));
  }

  // Private

  async #connect() {
    clearTimeout(this.#retry);
    if (this.#spent) {
      this.#wanted = false;
      this.#become("denied");
      return;
    }
    this.#become("connecting");
    await this.#ready;
    if (this.#state !== "connecting" || this.#session) {
      return; // closed or suspended meanwhile, or somebody else has waited, too
    }
    this.#spent = this.#credentials.kind === "attached";
    const session = new Session(this.#url, this.#credentials.login(), {
      guest: this.#credentials.kind === "guest",
      onOnline: () => this.#onOnline(session),
      onEnd: (end) => this.#onEnd(session, end),
      onMessage: this.#hooks.onMessage,
    });
    this.#session = session;
    session.start();
  }

  /** @param {Session} session */
  #onOnline(session) {
    this.#since = performance.now();
    this.#outage = false;
    if (this.#credentials.byBareJid) {
      session.send(presence());
    }
    if (isWebSocket(this.#url)) {
      // A dead WebSocket looks like a quiet one; BOSH is answered once a minute anyway.
      this.#watch = setInterval(() => session.probe(SILENCE), SILENCE);
    }
    this.#become("online");
    this.#hooks.onOnline();
  }

  /**
   * @param {Session} session
   * @param {import("./session.js").End} end
   */
  #onEnd(session, { denied, error }) {
    if (session !== this.#session) {
      return;
    }
    const steady = this.#state === "online" && performance.now() - this.#since > STEADY;
    this.#attempt = steady ? 0 : this.#attempt;
    this.#forget();
    if (denied || this.#spent) {
      this.#wanted = false;
      report(error);
      this.#become("denied");
      return;
    }
    if (!this.#outage) {
      this.#outage = true;
      console.warn(`${error.message}; trying again`);
    }
    this.#retry = setTimeout(() => this.#connect(), backoff(this.#attempt++));
    this.#become("offline");
  }

  /** @param {(session: Session) => void} goodbye */
  #drop(goodbye) {
    const session = this.#session;
    this.#forget();
    if (session) {
      goodbye(session);
    }
    if (this.#state !== "denied") {
      this.#become("offline");
    }
  }

  #forget() {
    clearTimeout(this.#retry);
    clearInterval(this.#watch);
    this.#session = null;
  }

  /** @param {State} state */
  #become(state) {
    if (state !== this.#state) {
      this.#state = state;
      this.#hooks.onState(state);
    }
  }
}

import { backoff } from "./backoff.js";
import { isConfidential, isWebSocket, transportUrls } from "./config.js";
import { PubSubError } from "./errors.js";
import { Interests } from "./interests.js";
import { report } from "./report.js";
import { Session } from "./session.js";
import { workerUrl } from "./sharing.js";
import { isReachable, Transports } from "./transports.js";

/** @typedef {"connecting" | "online" | "offline" | "denied"} State */
/** @typedef {import("./credentials.js").Credentials} Credentials */
/** @typedef {import("./stanzas.js").Request} Request */

/**
 * @typedef {object} Hooks
 * @property {() => void} onOnline  before `onState` tells it
 * @property {(message: Element) => void} onMessage
 * @property {() => void} onGoodbye  the last moment to ask for something; no answer will be heard
 * @property {(state: State) => void} onState
 */

// A dead link looks like a quiet one: it is found out 40 seconds after the last sign of life.
const SILENCE = 15_000;
const ANSWER = 10_000;
// Somebody looks at the page again, or the browser thinks that the network has changed.
const RECENT = 5_000;
const SOON = 5_000;

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
  /** @type {Credentials | undefined} of the last login */
  #who;
  #wanted = false;
  #attempt = 0;
  #since = 0;
  #outage = false;
  #shared = false;
  /** @type {Interests | undefined} of a session that is shared with other tabs */
  #interests;
  #shares;
  /** Whether the last login was refused, so that a second refusal is final. */
  #refused = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #watch;
  #config;
  #source;
  #hooks;
  #ready;
  #urls;
  #transports;

  /**
   * @param {import("./config.js").Config} config
   * @param {import("./credentials.js").Source} source
   * @param {Hooks} hooks
   * @param {object} [how]
   * @param {Promise<unknown>} [how.ready]  no session is opened before it is resolved
   * @param {boolean} [how.shared]  with the other tabs of the browser, where that can be
   * @throws {Error} when there is no address where these credentials may be sent
   */
  constructor(config, source, hooks, { ready = Promise.resolve(), shared = true } = {}) {
    this.#config = config;
    this.#source = source;
    this.#hooks = hooks;
    this.#ready = ready;
    this.#shares = shared;
    this.#urls = transportUrls(config, document.baseURI);
    this.#transports = new Transports(this.#urls, () => sessionStorage);
    if (source.fixed) {
      this.#address(source.fixed);
    }
  }

  get state() {
    return this.#state;
  }

  /** The address for which the server keeps our subscriptions, once online. */
  get subscriber() {
    return this.#session?.jid ?? "";
  }

  /** Whether the site knows nothing of who has logged in. */
  get isGuest() {
    return this.#who?.isGuest;
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
      this.#session.probe(RECENT, SOON);
    } else if (this.#wanted && this.#state !== "connecting") {
      this.#attempt = 0;
      this.#connect();
    }
  }

  /** The browser is about to stop the page for a while. */
  freeze() {
    this.#session?.freeze();
  }

  /** The page goes on. */
  thaw() {
    this.#session?.thaw();
    this.wake();
  }

  /** The link may be dead. */
  doubt() {
    this.#session?.probe(0, SOON);
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

  /**
   * Lets the other tabs of a shared session know that we listen to a node.
   * @param {string} node
   */
  async hold(node) {
    await this.#interests?.hold(node);
  }

  /**
   * Nobody here listens to a node any more.
   * @param {string} node
   * @param {() => Promise<void>} ifLast  called if no other tab of the session does
   */
  async release(node, ifLast) {
    await (this.#interests ? this.#interests.release(node, ifLast) : ifLast());
  }

  // Private

  async #connect() {
    clearTimeout(this.#retry);
    this.#become("connecting");
    try {
      await this.#ready;
      const found = await this.#find();
      this.#isConnecting && this.#start(found);
    } catch (error) {
      this.#isConnecting && this.#onFailure(error, error instanceof PubSubError && error.type === "auth");
    }
  }

  /** Who logs in, where, and by which worker if the connection is shared. */
  async #find() {
    const who = await this.#source.next(Number(this.#refused));
    const url = this.#address(who);
    const shares = this.#shares && isWebSocket(url);
    const worker = shares ? await workerUrl(this.#config, url.href, who.identity) : undefined;
    return { who, url, worker };
  }

  /** @param {Credentials} who */
  #address({ kind }) {
    if (kind === "attached") {
      return transportUrls(this.#config, document.baseURI, { boshOnly: true })[0];
    }
    const { url } = this.#transports;
    if (kind === "account" && !isConfidential(url)) {
      throw new Error(`A password is sent over TLS only, not to ${url.href}`);
    }
    return url;
  }

  /** Not if it was closed or suspended meanwhile, or somebody else has waited, too. */
  get #isConnecting() {
    return this.#state === "connecting" && !this.#session;
  }

  /** @param {{who: Credentials, url: URL, worker?: string}} found */
  #start({ who, url, worker }) {
    this.#who = who;
    const hooks = {
      guest: who.kind === "guest",
      onOnline: () => this.#onOnline(session),
      onEnd: (/** @type {import("./session.js").End} */ end) => this.#onEnd(session, end),
      onMessage: this.#hooks.onMessage,
    };
    const session = new Session(url, who.login(Boolean(worker)), hooks, worker);
    this.#session = session;
    this.#shared = Boolean(worker);
    this.#interests = worker ? new Interests(worker) : undefined;
    session.start();
  }

  /** @param {Session} session */
  #onOnline(session) {
    this.#since = performance.now();
    this.#outage = false;
    this.#refused = false;
    if (this.#who?.kind !== "attached") {
      this.#transports.worked();
    }
    if (this.#shared) {
      this.#who?.adopt(session.jid);
    }
    this.#watch = setInterval(() => session.probe(SILENCE, ANSWER), SILENCE);
    this.#state = "online";
    this.#hooks.onOnline();
    this.#hooks.onState(this.#state);
  }

  /**
   * @param {Session} session
   * @param {import("./session.js").End} end
   */
  async #onEnd(session, { denied, workerless, deserted, error }) {
    if (session !== this.#session) {
      return;
    }
    const wasOnline = this.#state === "online";
    this.#attempt = wasOnline && performance.now() - this.#since > STEADY ? 0 : this.#attempt;
    this.#forget();
    this.#become(wasOnline ? "offline" : "connecting");
    if (workerless) {
      this.#shares = false;
      this.#connect();
    } else if (this.#isFinal(denied)) {
      this.#deny(error);
    } else if (denied) {
      this.#refused = true;
      this.#connect();
    } else if (wasOnline || deserted || this.#who?.kind === "attached") {
      this.#onFailure(error);
    } else {
      const again = await this.#transports.failed(() => isReachable(this.#urls));
      if (this.#isConnecting) {
        again ? this.#connect() : this.#onFailure(error);
      }
    }
  }

  /**
   * Whether the same would happen again. A session made by the server cannot be made again here: the
   * page must fetch a new one.
   * @param {boolean} denied
   */
  #isFinal(denied) {
    const isFixed = this.#source.fixed !== undefined;
    return denied ? isFixed || this.#refused : isFixed && this.#who?.kind === "attached";
  }

  /** @param {unknown} error */
  #deny(error) {
    this.#wanted = false;
    report(error);
    this.#become("denied");
  }

  /** @param {unknown} error @param {boolean} [denied] */
  #onFailure(error, denied) {
    if (denied) {
      this.#deny(error);
      return;
    }
    if (!this.#outage) {
      this.#outage = true;
      console.warn(`${error instanceof Error ? error.message : error}; trying again`);
    }
    this.#retry = setTimeout(() => this.#connect(), backoff(this.#attempt++));
    this.#become("offline");
  }

  /** @param {(session: Session) => void} goodbye */
  #drop(goodbye) {
    const session = this.#session;
    if (this.#source.fixed && !this.isGuest && !this.#shared) {
      this.#hooks.onGoodbye(); // this server may not be one that forgets by itself
    }
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
    this.#interests?.releaseAll();
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

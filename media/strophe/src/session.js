import { Strophe } from "strophe.js";

import { isWebSocket } from "./config.js";
import { PubSubError } from "./errors.js";
import { Pending } from "./pending.js";
import { breath } from "./pace.js";
import { isolated } from "./report.js";
import { NO_MECHANISM, SaslConnection } from "./sasl.js";
import { DESERTED, SharedStream } from "./sharing.js";
import { iq, ping } from "./stanzas.js";
import { child, parseXml, xml } from "./xml.js";

/** @typedef {import("./credentials.js").Login} Login */
/** @typedef {import("./stanzas.js").Request} Request */

/**
 * How a session ended by itself. `denied`: the same login would be refused again. `workerless`: it
 * was to be shared, and there is no worker to be had. `deserted`: the tab that was logging in for all
 * has gone.
 * @typedef {{denied: boolean, workerless: boolean, deserted: boolean, error: PubSubError}} End
 */

/**
 * @typedef {object} Hooks
 * @property {boolean} guest  guests log in by SASL PLAIN, with a password of no worth
 * @property {() => void} onOnline
 * @property {(end: End) => void} onEnd  called once, and not at all after close() or leave()
 * @property {(message: Element) => void} onMessage
 */

const CONNECT_LIMIT = 10_000;
const ANSWER_LIMIT = 15_000;
const GOODBYE_LIMIT = 2_000;
const BOSH_FAILURES = 2;
/** How many characters may wait until the page comes to them: with more it asks anew instead. */
const MOST = 20_000_000;
/** After so many milliseconds a BOSH request has arrived, and no other one overtakes it. */
const APART = 100;
const HTTP_ERRORS = [0, 400, 401, 403, 404, 405, 413, 429, 500, 502, 503, 504];

/**
 * One Strophe connection, from its first attempt to its end; never used twice.
 *
 * Strophe drops a handler that throws or does not return true, calls back for connections long
 * given up, and can hang half-open: none of that leaves this file.
 */
export class Session {
  #url;
  #login;
  #hooks;
  #strophe;
  /** @type {SharedStream | undefined} */
  #shared;
  #open = true;
  #online = false;
  #deserted = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #limit;
  #failures = 0;
  /** When the BOSH request was sent that is underway and says nothing. */
  #polled = -Infinity;
  /** What the last BOSH request bore, for the goodbye of a page that is left. */
  #sid = "";
  #rid = 0;
  #requests = 0;
  #pending = new Pending();
  #heard = performance.now();

  /**
   * @param {URL} url  WebSocket or BOSH by its scheme
   * @param {Login} login
   * @param {Hooks} hooks
   * @param {string} [worker]  the address of the worker by which it is shared with other tabs
   */
  constructor(url, login, hooks, worker) {
    this.#url = url;
    this.#login = login;
    this.#hooks = hooks;
    Strophe.setLogLevel(Strophe.LogLevel.FATAL);
    this.#shared = worker === undefined ? undefined : new SharedStream(url.href, hooks, worker);
    this.#strophe = this.#shared ?? new SaslConnection(url.href, hooks);
    this.#listen(this.#strophe);
  }

  /** Connects, or continues a session; then the hooks tell what happens. */
  start() {
    const login = this.#login;
    this.#limit = setTimeout(() => this.#fail("timeout", "no connection in time"), CONNECT_LIMIT);
    /** @type {(status: number, condition?: string | null, element?: Element) => void} */
    const onStatus = (...args) => this.#onStatus(...args);
    if ("sid" in login) {
      this.#sid = login.sid;
      this.#rid = login.rid - 1;
      this.#strophe.attach(login.jid, login.sid, login.rid, onStatus);
    } else {
      this.#strophe.connect(login.jid, login.password, onStatus);
    }
  }

  /** The browser is about to stop the page for a while. */
  freeze() {
    this.#shared?.freeze();
  }

  /** The page goes on. */
  thaw() {
    this.#shared?.thaw();
  }

  /** The full JID that the server gave us, once online. */
  get jid() {
    return this.#strophe.jid;
  }

  /**
   * @param {string} to
   * @param {Request} request
   * @param {number} [limit]  how long an answer may take, in milliseconds
   * @returns {Promise<Element>} the result; rejects with a PubSubError
   */
  async request(to, request, limit = ANSWER_LIMIT) {
    if (!this.#online) {
      throw new PubSubError("Not connected", { condition: "disconnected" });
    }
    const id = this.#strophe.getUniqueId(String(++this.#requests));
    this.send(iq(to, id, request));
    return this.#pending.add(to, id, limit);
  }

  /** @param {string} text  a stanza */
  send(text) {
    this.#strophe.send(parseXml(text));
    isWebSocket(this.#url) ? this.#strophe.flush() : this.#flush();
  }

  /**
   * Finds out whether the server still hears us.
   * @param {number} silence  in milliseconds; if it was heard since then, it does
   * @param {number} limit  how long its answer may take
   */
  async probe(silence, limit) {
    if (!this.#online || performance.now() - this.#heard < silence) {
      return;
    }
    try {
      await this.request(Strophe.getDomainFromJid(this.jid) ?? "", ping(), limit);
    } catch (error) {
      // Any answer is a sign of life, a refusal too, and so is all that it may have to wait behind.
      const silent = performance.now() - this.#heard >= limit;
      if (silent && error instanceof PubSubError && error.condition === "timeout") {
        this.#fail("timeout", "the server is silent");
      }
    }
  }

  /** Says goodbye. */
  close() {
    const online = this.#online;
    if (!this.#end()) {
      return;
    }
    if (this.#shared) {
      this.#shared.leave();
    } else if (isWebSocket(this.#url) && online) {
      // The server answers and closes (RFC 7395 §3.6).  Closing first, as Strophe would, crosses
      // its answer, which browsers then show as an error.
      this.send(xml("close", { xmlns: "urn:ietf:params:xml:ns:xmpp-framing" }));
      setTimeout(() => this.#stop(), GOODBYE_LIMIT);
    } else {
      this.#hangUp();
    }
  }

  /** Says goodbye from a page that is being left, where only what is sent at once arrives. */
  leave() {
    const online = this.#online;
    if (!this.#end()) {
      return;
    }
    if (!isWebSocket(this.#url) && online) {
      this.#terminate();
      this.#stop();
    } else {
      this.#hangUp();
    }
  }

  // Private

  /** @param {SaslConnection} strophe */
  #listen(strophe) {
    if (strophe instanceof SharedStream) {
      strophe.onworkererror = () => this.#fail("timeout", "no shared worker");
    }
    for (const status of HTTP_ERRORS) {
      strophe.addProtocolErrorHandler("HTTP", status, () => this.#onHttpError(status));
    }
    strophe.xmlInput = () => this.#onInput();
    strophe.onarrival = (text) => {
      this.#heard = performance.now();
      // All tabs get the answers that one of them has asked for.
      return this.#online && /^<iq/.test(text) && !this.#pending.expects(text);
    };
    strophe.onwaiting = (length) => {
      if (length > MOST) {
        this.#fail("resource-constraint", "more comes than the page can take");
      }
    };
    strophe.xmlOutput = (body) => {
      this.#polled = body.firstChild ? -Infinity : performance.now();
      this.#sid = body.getAttribute("sid") ?? this.#sid;
      this.#rid = Math.max(this.#rid, Number(body.getAttribute("rid")));
    };
    strophe.addHandler((stanza) => this.#onMessage(stanza), null, "message", null);
    strophe.addHandler((stanza) => this.#onAnswer(stanza), null, "iq", ["result", "error"]);
  }

  /**
   * @param {number} status
   * @param {string | null} [condition]
   * @param {Element} [element]
   */
  #onStatus(status, condition, element) {
    if (!this.#open) {
      return;
    }
    switch (status) {
      case Strophe.Status.CONNECTED:
      case Strophe.Status.ATTACHED:
        clearTimeout(this.#limit);
        this.#online = true;
        isolated(this.#hooks.onOnline);
        break;
      case Strophe.Status.AUTHFAIL:
        this.#refused(element);
        break;
      case Strophe.Status.CONNFAIL:
        this.#deserted = DESERTED.test(condition ?? "");
        this.#fail(named(condition), "no connection", condition === NO_MECHANISM);
        break;
      case Strophe.Status.ERROR:
      case Strophe.Status.CONNTIMEOUT:
      case Strophe.Status.DISCONNECTED:
        this.#fail(condition || "disconnected", "the connection is lost");
        break;
    }
  }

  /** @param {Element} [element]  SASL's <failure>, or the error of a later step */
  #refused(element) {
    const sasl = !element || element.localName === "failure";
    const condition = (sasl && element && child(element)?.localName) || "not-authorized";
    const temporary = condition === "temporary-auth-failure" || condition === "aborted";
    this.#fail(condition, "the login is refused", sasl && !temporary);
  }

  /** @param {number} status */
  #onHttpError(status) {
    // Strophe goes on for minutes. A login is better tried anew; a session that stands may be
    // saved by repeating a request, but not after the server has forgotten it (4xx).
    const hopeless = !this.#online || (status >= 400 && status < 500);
    if (hopeless || ++this.#failures > BOSH_FAILURES) {
      this.#fail("connection-failed", status ? `HTTP status ${status}` : "no answer");
    }
  }

  #onInput() {
    this.#heard = performance.now();
    this.#failures = 0;
    this.#polled = -Infinity;
    if (this.#online && !isWebSocket(this.#url)) {
      // Strophe asks anew after 100 ms, which browsers stretch to a minute in hidden tabs: the
      // BOSH session would be dead by then.
      this.#flush();
    }
  }

  /** @param {Element} stanza */
  #onMessage(stanza) {
    if (this.#open) {
      isolated(this.#hooks.onMessage, stanza);
    }
    return true;
  }

  /** @param {Element} stanza */
  #onAnswer(stanza) {
    this.#pending.answer(stanza);
    return true;
  }

  /**
   * @param {string} condition
   * @param {string} what
   * @param {boolean} [denied]
   */
  #fail(condition, what, denied = false) {
    if (!this.#end()) {
      return;
    }
    const details = condition === what ? "" : ` (${condition})`;
    const error = new PubSubError(`${this.#url.href}: ${what}${details}`, { condition });
    const silent = condition === "timeout";
    // Strophe is in the middle of its own clearing up.
    queueMicrotask(() => (silent && this.#shared ? this.#shared.closeForAll() : this.#strophe.disconnect()));
    const workerless = silent && this.#shared?.heard === false;
    isolated(this.#hooks.onEnd, { denied, workerless, deserted: this.#deserted, error });
  }

  /** Ends the session for everybody who waits. False when it had ended already. */
  #end() {
    if (!this.#open) {
      return false;
    }
    this.#open = false;
    this.#online = false;
    clearTimeout(this.#limit);
    this.#strophe.forget();
    this.#pending.end();
    return true;
  }

  /**
   * Sends over BOSH, when this turn is over, what Strophe has to send, and asks for more.
   *
   * ejabberd never answers a request that has overtaken, on its way, one that says nothing, nor any
   * after it.  So what there is to say goes along with the question for more, and what comes right
   * behind such a question is left to Strophe, who sends each 100 ms.
   */
  async #flush() {
    await breath();
    if (this.#open && performance.now() - this.#polled > APART) {
      this.#strophe.flush();
    }
  }

  /** Says goodbye in Strophe's way, which waits for no answer over WebSocket. */
  #hangUp() {
    this.#strophe.flush();
    this.#strophe.disconnect();
    if (isWebSocket(this.#url)) {
      this.#stop();
    }
  }

  /** Stops Strophe at once: believing that it was never connected, it says nothing more. */
  #stop() {
    this.#strophe.connected = false;
    this.#strophe.disconnect();
  }

  /** Ends a BOSH session by a request that outlives the page. */
  #terminate() {
    const xmlns = "http://jabber.org/protocol/httpbind";
    const rid = String(this.#rid + 1);
    const serializer = new XMLSerializer();
    const said = /** @type {Element[]} */ (this.#strophe._data);
    const last = said.map((stanza) => serializer.serializeToString(stanza));
    const body = xml("body", { xmlns, sid: this.#sid, rid, type: "terminate" }, ...last);
    // As plain text to anybody: no preflight, which a page that goes away could not wait for.
    const options = /** @type {const} */ ({ method: "POST", mode: "no-cors", keepalive: true });
    fetch(this.#url, { ...options, body }).catch(() => {});
  }
}

// Private

/** @param {string | null} [condition]  Strophe puts whole sentences where a name belongs */
function named(condition) {
  return condition && /^[a-z-]+$/.test(condition) ? condition : "connection-failed";
}

import { Attention } from "./attention.js";
import { bind } from "./binding.js";
import { Collection } from "./collection.js";
import { pageConfig, resolveConfig } from "./config.js";
import { Connection } from "./connection.js";
import { credentialSource } from "./credentials.js";
import { Feed, leave } from "./feed.js";
import { Origin } from "./origin.js";
import { NEWS } from "./repeats.js";
import { isolated, report } from "./report.js";
import { Requests } from "./requests.js";
import { Site } from "./site.js";
import { parseEvent, parsePublished, publish } from "./stanzas.js";
import { checkExcludeSelf, checkHandlers } from "./subscription.js";
import { escapeXml } from "./xml.js";

/** @typedef {import("./subscription.js").Handlers} Handlers */
/** @typedef {import("./stanzas.js").Item} Item */
/** @typedef {import("./stanzas.js").Notification} Notification */

/**
 * "online": all subscriptions have been caught up. "catching-up": connected, but something may be
 * missing yet. "offline": it tries again. "denied": it does not.
 * @typedef {import("./connection.js").State | "catching-up"} State
 */

/**
 * @typedef {object} ListenOptions
 * @property {string | string[]} [node]  subscribed at once
 * @property {(entry: any, client: PubSubClient) => void} [event_cb]  hears of each item of the
 *   nodes that have no handlers of their own: its <entry>, wrapped where the page has jQuery
 * @property {boolean} [excludeSelf]  leaves out what this page's own requests have published:
 *   neither event_cb hears of it nor any subscription that does not say otherwise
 */

/**
 * @typedef {object} ConnectOptions
 * @property {(refused: number) => Promise<LoginOptions> | LoginOptions} [credentials]  asked for
 *   each login, and once more when it was refused
 * @property {(node: string) => Promise<boolean> | boolean} [authorize]  asked about a private node
 *   that the server does not let this user read: lets him in there, and says whether it did
 * @property {boolean} [shared]  false: a connection of its own, not one with the browser's other tabs
 */

/** @typedef {import("./credentials.js").LoginOptions} LoginOptions */

/**
 * @typedef {ListenOptions & ConnectOptions & LoginOptions
 *   & Partial<import("./config.js").Config>} Options
 */

const UPDATES = 1000;
/** How long what was declined is not declined again; in milliseconds. */
const AGAIN = 10_000;

/**
 * The page's end of publish-subscribe. It connects at once and by itself again when the
 * connection is lost; every connection renews all subscriptions.
 *
 * Event "state": its `detail` is the new state.
 */
export class PubSubClient extends EventTarget {
  #options;
  #config;
  #service;
  #authorize;
  #connection;
  #attention;
  /** @type {State} as it was told last */
  #told = "offline";
  /** @type {Map<string, Feed>} */
  #feeds = new Map();
  /** @type {WeakMap<object, string>} of the newest entries */
  #nodes = new WeakMap();
  /** @type {Set<string>} */
  #declined = new Set();
  #watching = new AbortController();
  #origin = new Origin();
  #requests = new Requests(this.#origin.id, this.#watching.signal);

  /** @param {Options} [options]  nick; username and password; or jid, sid and rid */
  constructor(options = {}) {
    super();
    if (options.event_cb && typeof options.event_cb !== "function") {
      throw new TypeError(`event_cb must be a function, not ${String(options.event_cb)}`);
    }
    checkExcludeSelf(options.excludeSelf);
    const config = resolveConfig(pageConfig(document), options);
    const site = config.credentialsUrl ? new Site(config.credentialsUrl, config.user) : undefined;
    const source = credentialSource(options, config, site && ((refused) => site.credentials(refused)));
    this.#authorize = options.authorize ?? (site && ((node) => site.authorize(node)));
    this.#options = options;
    this.#config = config;
    this.#service = config.service;
    this.#connection = new Connection(
      config,
      source,
      {
        onOnline: () => this.#feeds.forEach((feed) => feed.renew()),
        onMessage: (message) => this.#onMessage(message),
        onGoodbye: () => this.#feeds.forEach((feed) => feed.leave()),
        onState: () => this.#onState(),
      },
      // Nothing arrives before it is known which items are our own.
      { ready: this.#origin.ready, shared: options.shared },
    );
    this.#attention = new Attention(window, this.#watching.signal);
    /**
     * The newest entries, as event_cb gets them; at most 1,000.
     * @type {any[]}
     */
    this.updates = [];

    [options.node ?? []].flat().forEach((node) => this.subscribe(node));
    this.#watch();
    this.#connection.open();
  }

  /** @returns {State} */
  get state() {
    const { state } = this.#connection;
    const busy = state === "online" && [...this.#feeds.values()].some((feed) => feed.isCatchingUp);
    return busy ? "catching-up" : state;
  }

  /** How many items came while the window was not in focus; reset by the focus. */
  get unread() {
    return this.#attention.unread;
  }

  set unread(value) {
    this.#attention.unread = value;
  }

  /** Whether the window is in focus. */
  get focus() {
    return this.#attention.focus;
  }

  set focus(value) {
    this.#attention.focus = value;
  }

  /**
   * Listens to a node, on every connection to come.
   * @param {string} node
   * @param {Handlers} [handlers]  without them the items go to event_cb
   * @throws {TypeError} for a node or handlers that are none
   */
  subscribe(node, handlers = BARE) {
    checkNode(node);
    checkHandlers(handlers);
    const excludeSelf = handlers.excludeSelf ?? this.#excludeSelf;
    if (excludeSelf) {
      this.#origin.needed();
    }
    const feed = this.#feeds.get(node) ?? this.#open(node);
    return feed.add(handlers, excludeSelf);
  }

  /**
   * The items of a node as a Map that keeps itself true.
   * @param {string} node
   */
  collection(node) {
    return new Collection(this, node, this.#config.nodes?.[node]?.max);
  }

  /**
   * Keeps the lists of a page true: each element with data-pubsub-collection, as
   * `{% pubsub_collection %}` writes it, shows the items of its node, as many and in the order that
   * it asks for, in rows that are copies of what is in its <template>.
   *
   * In a row data-pubsub-field="name" stands for a field's text, and data-pubsub-attr="href:url"
   * for an attribute; items without fields have no row there. Rows that Django has rendered, known
   * by data-pubsub-id, are kept, and filled like others where they say something else. After a row
   * was filled it dispatches "pubsub:row", whose `detail.item` is what it shows.
   *
   * @param {ParentNode} root  what is bound already in it stays so
   * @returns {() => void} undoes it, for a page that lives longer than the lists on it; elements
   *   that it forgets are forgotten here, too
   * @throws {Error} for a list without a <template> of one element, or with a wrong order or limit
   */
  bind(root = document) {
    return bind(root, (node) => this.collection(node));
  }

  /**
   * Publishes items: text, Elements, or data for JSON.
   *
   * @template T
   * @param {string} node
   * @param {T | T[]} items  one, or an array of them
   * @returns {Promise<string[]>} their ids; rejects with the server's refusal
   */
  async publish(node, items) {
    checkNode(node);
    const requests = [items].flat().map((item) => publish(node, item));
    const send = (/** @type {any} */ request) => this.#connection.request(this.#service, request);
    const answers = await Promise.all(requests.map(send));
    return answers.map(parsePublished);
  }

  /** What a request to the site bears so that this page knows the items that come of it. */
  get headers() {
    return this.#requests.headers;
  }

  /**
   * The browser's fetch(), with these headers where it asks the page's own origin.
   * @param {RequestInfo | URL} input
   * @param {RequestInit} [init]
   */
  fetch(input, init) {
    return this.#requests.fetch(input, init);
  }

  /**
   * Lets all requests of htmx and jQuery to the page's own origin bear these headers; jQuery must
   * be there already.
   * @returns {() => void} undoes it, as disconnect() does
   */
  markRequests() {
    return this.#requests.mark();
  }

  /** Leaves for good; nothing stays behind on the server. */
  disconnect() {
    this.#watching.abort();
    this.#connection.close();
  }

  // Private

  get #excludeSelf() {
    return this.#options.excludeSelf ?? false;
  }

  /** @param {string} node */
  #open(node) {
    const hooks = {
      onNews: this.#onNews.bind(this),
      onChange: () => this.#onState(),
      onLocked: () => this.#forget(node),
      authorize: this.#authorize,
      onEnd: () => this.#feeds.delete(node),
    };
    const { since, nodes = {} } = this.#config;
    const feed = new Feed(node, this.#service, this.#connection, hooks, { ...nodes[node], since });
    this.#feeds.set(node, feed);
    return feed;
  }

  #onState() {
    const { state } = this;
    if (state !== this.#told) {
      this.#told = state;
      this.dispatchEvent(new CustomEvent("state", { detail: state }));
    }
  }

  /**
   * The server sends what nobody here listens to: the last listener went while there was no
   * connection to say so, or it is for another tab.
   * @param {string} node
   */
  async #decline(node) {
    if (!this.#declined.has(node)) {
      this.#declined.add(node);
      await leave(this.#connection, this.#service, node).catch(report);
      setTimeout(() => this.#declined.delete(node), AGAIN);
    }
  }

  #watch() {
    const { signal } = this.#watching;
    const wake = () => this.#connection.wake();
    window.addEventListener("pagehide", () => this.#connection.suspend(), { signal });
    window.addEventListener("pageshow", (event) => event.persisted && wake(), { signal });
    window.addEventListener("online", wake, { signal });
    window.addEventListener("offline", () => this.#connection.doubt(), { signal });
    document.addEventListener("freeze", () => this.#connection.freeze(), { signal });
    document.addEventListener("resume", () => this.#connection.thaw(), { signal });
    document.addEventListener(
      "visibilitychange",
      () => document.visibilityState === "visible" && wake(),
      { signal },
    );
  }

  /** @param {Element} message */
  #onMessage(message) {
    // Anybody may send us a message: only the service speaks for its nodes.
    if (message.getAttribute("from") !== this.#service) {
      return;
    }
    for (const notification of parseEvent(message, report)) {
      const feed = this.#feeds.get(notification.node);
      if (feed) {
        feed.receive(notification);
      } else if (notification.kind !== "end") {
        this.#decline(notification.node);
      }
    }
  }

  /**
   * @param {Feed} feed
   * @param {Notification} notification
   * @param {number} moment
   */
  #onNews(feed, notification, moment) {
    if (notification.kind !== "item") {
      feed.notify(notification, false, moment);
      return;
    }
    const { item } = notification;
    const own = this.#origin.made(item);
    if (own && this.#excludeSelf) {
      feed.notify(notification, own, moment); // no news, but a subscription may ask for it
      return;
    }
    const show = () => {
      this.#remember(feed, item, moment);
      feed.notify(notification, own, moment);
    };
    moment === NEWS ? this.#attention.item(show) : show();
  }

  /** @param {string} node  may be read no longer */
  #forget(node) {
    const kept = this.updates.filter((entry) => this.#nodes.get(entry) !== node);
    this.updates.splice(0, Infinity, ...kept);
  }

  /**
   * The original's way: one callback for all nodes.
   * @param {Feed} feed
   * @param {Item} item
   * @param {number} moment
   */
  #remember(feed, { entry }, moment) {
    if (!entry) {
      return;
    }
    const { jQuery } = /** @type {any} */ (window);
    const wrapped = jQuery ? jQuery(entry) : entry;
    if (moment === NEWS) {
      this.#nodes.set(wrapped, feed.node);
      this.updates.push(wrapped);
      this.updates.splice(0, this.updates.length - UPDATES);
    }
    if (feed.hears(BARE, moment)) {
      isolated(this.#options.event_cb, wrapped, this);
    }
  }
}

// Private

/** @type {Handlers} */
const BARE = {};

/** @param {unknown} node */
function checkNode(node) {
  if (typeof node !== "string" || !node) {
    throw new TypeError(`A node's name must be a text that is not empty, not ${JSON.stringify(node)}`);
  }
  escapeXml(node); // throws for what no stanza can carry
}

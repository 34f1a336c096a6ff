import { backoff } from "./backoff.js";
import { PubSubError } from "./errors.js";
import { readSeq } from "./payloads.js";
import { NEWS, Repeats } from "./repeats.js";
import { isolated, report } from "./report.js";
import { subscribe, unsubscribe } from "./stanzas.js";

/** @typedef {import("./stanzas.js").Item} Item */
/** @typedef {import("./stanzas.js").Notification} Notification */

/**
 * What a page wants to hear of a node. Each is called by itself: an exception in one disturbs
 * no other.
 *
 * @typedef {object} Handlers
 * @property {(item: Item) => void} [onItem]  published or overwritten
 * @property {(id: string) => void} [onRetract]  taken back
 * @property {(items: Item[]) => void} [onSync]  the node's whole state, after it was fetched
 *   (kept for the catch-up that is to come: nothing fetches yet)
 * @property {(error: PubSubError) => void} [onError]  the server refused; without it
 *   the console shows the error
 * @property {boolean} [excludeSelf]  whether onItem is spared what this page's own requests have
 *   published; the client's option by default
 */

/** One listener of a node, as the page holds it. */
export class Subscription {
  #feed;

  /**
   * @param {Feed} feed
   * @param {Handlers} handlers
   * @param {boolean} excludeSelf
   * @param {number} since  the moment of the feed at which it came
   */
  constructor(feed, handlers, excludeSelf, since) {
    this.#feed = feed;
    /** @readonly */
    this.node = feed.node;
    /** @readonly */
    this.handlers = handlers;
    /** @readonly */
    this.excludeSelf = excludeSelf;
    /** @readonly */
    this.since = since;
  }

  /**
   * Listens no more.
   * @returns {Promise<void>} settled when the server has been told, if it had to be
   */
  unsubscribe() {
    return this.#feed.remove(this);
  }
}

/**
 * One node on the server: the one subscription there that all of the page's listeners share.
 *
 * A refusal that may pass (the node is not there yet, the server is busy) is tried again.
 */
export class Feed {
  #connection;
  #service;
  #onEnd;
  /** @type {Set<Subscription>} */
  #listeners = new Set();
  #repeats = new Repeats();
  #subscribed = "";
  #round = 0;
  #attempt = 0;
  #refused = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;

  /**
   * @param {string} node
   * @param {string} service
   * @param {import("./connection.js").Connection} connection
   * @param {() => void} [onEnd]  called when the last listener goes; the feed is not used again
   */
  constructor(node, service, connection, onEnd = () => {}) {
    this.node = node;
    this.#service = service;
    this.#connection = connection;
    this.#onEnd = onEnd;
  }

  /**
   * Whether these very handlers are among those of the listeners who came at a moment or later.
   * @param {Handlers} handlers
   * @param {number} moment
   */
  hears(handlers, moment) {
    return [...this.#listeners].some(
      (listener) => listener.handlers === handlers && listener.since >= moment,
    );
  }

  /**
   * @param {Handlers} handlers
   * @param {boolean} [excludeSelf]
   */
  add(handlers, excludeSelf = false) {
    const subscription = new Subscription(this, handlers, excludeSelf, this.#repeats.now);
    this.#listeners.add(subscription);
    if (this.#listeners.size === 1) {
      this.renew();
    }
    return subscription;
  }

  /** @param {Subscription} subscription */
  async remove(subscription) {
    if (this.#listeners.delete(subscription) && !this.#wanted) {
      this.#onEnd();
      await this.#leave();
    }
  }

  /** Subscribes on the server; for each connection anew. */
  renew() {
    this.#attempt = 0;
    this.#refused = "";
    this.#subscribe();
  }

  /**
   * From which moment on those who came have not heard of it: 0 when nobody has. To be asked once
   * for each notification.
   * @param {Notification} notification
   */
  news(notification) {
    switch (notification.kind) {
      case "item":
        return this.#repeats.item(notification.item.id, readSeq(notification.item));
      case "retract":
        return this.#repeats.retract(notification.id);
      default:
        return NEWS;
    }
  }

  /**
   * @param {Notification} notification
   * @param {boolean} [own]  an item that this page's own request has published
   * @param {number} [moment]  only those are told who came then or later
   */
  notify(notification, own = false, moment = this.news(notification)) {
    switch (notification.kind) {
      case "item":
        this.#each(({ onItem }, excludeSelf) => {
          if (!(own && excludeSelf)) {
            isolated(onItem, notification.item);
          }
        }, moment);
        break;
      case "retract":
        this.#each((handlers) => isolated(handlers.onRetract, notification.id), moment);
        break;
      case "delete":
        // It may be made again, without our subscription.
        this.renew();
        break;
    }
  }

  // Private

  /** Whether anybody listens. */
  get #wanted() {
    return this.#listeners.size > 0;
  }

  async #subscribe() {
    clearTimeout(this.#retry);
    const round = ++this.#round;
    const jid = this.#connection.subscriber;
    this.#repeats.interrupted();
    if (!this.#wanted || this.#connection.state !== "online") {
      return;
    }
    try {
      this.#subscribed = jid;
      await this.#connection.request(this.#service, subscribe(this.node, jid));
      this.#refused = "";
      this.#attempt = 0;
    } catch (error) {
      if (round === this.#round) {
        this.#onRefusal(error);
      }
    }
  }

  async #leave() {
    clearTimeout(this.#retry);
    this.#round++;
    const jid = this.#subscribed;
    this.#subscribed = "";
    // An account's subscription serves the tabs and devices of the user, not this page alone.
    const ours = jid && jid === this.#connection.subscriber && this.#connection.ownsSubscriptions;
    if (ours) {
      await leave(this.#connection, this.#service, this.node);
    }
  }

  /** @param {unknown} error */
  #onRefusal(error) {
    if (!(error instanceof PubSubError)) {
      report(error);
      return;
    }
    if (error.condition === "disconnected") {
      return; // the next connection renews
    }
    const passing = error.type === "wait" || error.condition === "item-not-found";
    if (error.condition !== this.#refused) {
      this.#refused = error.condition;
      this.#each(({ onError }) => this.#tell(error, passing, onError));
    }
    if (passing) {
      this.#retry = setTimeout(() => this.#subscribe(), backoff(this.#attempt++));
    }
  }

  /**
   * @param {PubSubError} error
   * @param {boolean} passing
   * @param {Handlers["onError"]} onError
   */
  #tell(error, passing, onError) {
    if (onError) {
      isolated(onError, error);
    } else if (passing) {
      console.warn(`${this.node}: ${error.message}; trying again`);
    } else {
      report(error);
    }
  }

  /**
   * @param {(handlers: Handlers, excludeSelf: boolean) => void} call
   * @param {number} [moment]
   */
  #each(call, moment = NEWS) {
    for (const { handlers, excludeSelf, since } of [...this.#listeners]) {
      if (since >= moment) {
        call(handlers, excludeSelf);
      }
    }
  }
}

/**
 * Ends our subscription on the server, if there is one.
 * @param {import("./connection.js").Connection} connection
 * @param {string} service
 * @param {string} node
 */
export async function leave(connection, service, node) {
  const request = unsubscribe(node, connection.subscriber);
  await connection.request(service, request).catch(ifStillThere);
}

/**
 * Refuses what would only fail, or never be called, when the first event comes.
 * @param {unknown} handlers
 */
export function checkHandlers(handlers) {
  if (typeof handlers !== "object" || handlers === null) {
    throw new TypeError(`Handlers are an object such as {onItem(item) {}}, not ${String(handlers)}`);
  }
  for (const name of ["onItem", "onRetract", "onSync", "onError"]) {
    const handler = /** @type {Record<string, unknown>} */ (handlers)[name];
    if (handler !== undefined && typeof handler !== "function") {
      throw new TypeError(`${name} must be a function, not ${String(handler)}`);
    }
  }
  checkExcludeSelf(/** @type {Handlers} */ (handlers).excludeSelf);
}

/** @param {unknown} value  undefined where nothing is said */
export function checkExcludeSelf(value) {
  if (value !== undefined && typeof value !== "boolean") {
    throw new TypeError(`excludeSelf must be true or false, not ${String(value)}`);
  }
}

/** @param {unknown} error */
function ifStillThere(error) {
  const gone =
    error instanceof PubSubError &&
    (error.pubsubCondition === "not-subscribed" ||
      error.condition === "item-not-found" ||
      error.condition === "disconnected");
  if (!gone) {
    report(error);
  }
}

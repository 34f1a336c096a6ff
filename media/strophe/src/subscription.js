import { isolated } from "./report.js";

/** @typedef {import("./errors.js").PubSubError} PubSubError */
/** @typedef {import("./stanzas.js").Item} Item */

/**
 * What a page wants to hear of a node. Each is called by itself: an exception in one disturbs
 * no other.
 *
 * Who gives onSync or onRetract gets to know of all items of the node; the others hear of what was
 * published since the page was rendered.
 *
 * @typedef {object} Handlers
 * @property {(item: Item) => void} [onItem]  published or overwritten
 * @property {(id: string) => void} [onRetract]  taken back, or dropped by the node
 * @property {(items?: Item[]) => void} [onSync]  nothing is missing any more, on each connection.
 *   With items: a reset, these are all that the node holds, in the order in which they were created
 *   there. Without: what was missed has just been told. The first time it has items.
 * @property {(error: PubSubError) => void} [onError]  the server refused; without it
 *   the console shows the error
 * @property {boolean} [excludeSelf]  whether onItem is spared what this page's own requests have
 *   published; the client's option by default
 */

/** One listener of a node, as the page holds it. */
export class Subscription {
  #feed;
  #synced = false;

  /**
   * @param {import("./feed.js").Feed} feed
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

  /** Whether it has to know of all items of the node. */
  get wantsState() {
    return Boolean(this.handlers.onSync ?? this.handlers.onRetract);
  }

  /** Whether it has to be told yet which these are. */
  get isNew() {
    return this.wantsState && !this.#synced;
  }

  /** @param {Item[]} [items] */
  sync(items) {
    this.#synced = true;
    isolated(this.handlers.onSync, items);
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

/** @typedef {import("./payloads.js").Item} Item */
/** @typedef {{added: Item[], updated: Item[], removed: Item[]}} Change */

/**
 * The items of a node by their ids, in the order in which they were created there. It follows the
 * node, and is right again after any disturbance; nobody else changes it.
 *
 * Event "change": its `detail` is a Change; one for each notification, and for each catch-up that
 * brought something. All three of its lists are empty when nothing but the order has changed.
 * Event "sync": a catch-up is over, and nothing is missing.
 * Event "error": its `detail` is the PubSubError with which the server refused to tell. Who does
 * not listen to it finds it in the console.
 *
 * @extends {Map<string, Item>}
 */
export class Collection extends Map {
  #events = new EventTarget();
  #heard = false;
  #synced = false;
  #max;
  #subscription;
  /** @type {(collection: Collection) => void} */
  #onReady = () => {};

  /**
   * Settled by the first catch-up; while the server refuses it stays open.
   * @type {Promise<Collection>}
   */
  ready = new Promise((resolve) => (this.#onReady = resolve));

  /**
   * @param {Pick<import("./client.js").PubSubClient, "subscribe">} client
   * @param {string} node
   * @param {unknown} [max]  how many items the node keeps, where that is a number
   */
  constructor(client, node, max) {
    super();
    /** @readonly */
    this.node = node;
    this.#max = typeof max === "number" ? max : Infinity;
    this.#subscription = client.subscribe(node, {
      onItem: (item) => this.#onItem(item),
      onRetract: (id) => this.#onRetract(id),
      onSync: (items) => this.#onSync(items),
      onError: (error) => this.#onError(error),
      excludeSelf: false, // what the page itself has published belongs to the state
    });
  }

  /** Whether the whole state was here once. */
  get synced() {
    return this.#synced;
  }

  /**
   * @param {"change" | "sync" | "error"} type
   * @param {(event: CustomEvent) => void} listener
   * @param {boolean | AddEventListenerOptions} [options]
   */
  addEventListener(type, listener, options) {
    this.#heard ||= type === "error";
    this.#events.addEventListener(type, /** @type {EventListener} */ (listener), options);
  }

  /**
   * @param {"change" | "sync" | "error"} type
   * @param {(event: CustomEvent) => void} listener
   * @param {boolean | EventListenerOptions} [options]
   */
  removeEventListener(type, listener, options) {
    this.#events.removeEventListener(type, /** @type {EventListener} */ (listener), options);
  }

  /**
   * Follows its node no more; what it holds stays.
   * @returns {Promise<void>} settled when the server has been told, if it had to be
   */
  close() {
    return this.#subscription.unsubscribe();
  }

  /** @override @returns {never} */
  set() {
    throw new TypeError(`A collection follows its node: change ${this.node} instead`);
  }

  /** @override @returns {never} */
  delete() {
    return this.set();
  }

  /** @override @returns {never} */
  clear() {
    return this.set();
  }

  // Private

  /** @param {Item} item */
  #onItem(item) {
    const former = this.get(item.id);
    if (former && isSame(former, item)) {
      return;
    }
    super.set(item.id, item);
    this.#tell(former ? [] : [item], former ? [item] : [], this.#overflow());
  }

  /** As the node does it: the oldest make room, and nobody is told. */
  #overflow() {
    /** @type {Item[]} */
    const removed = [];
    for (const [id, item] of this) {
      if (this.size <= this.#max) {
        break;
      }
      super.delete(id);
      removed.push(item);
    }
    return removed;
  }

  /** @param {string} id */
  #onRetract(id) {
    const former = this.get(id);
    if (former) {
      super.delete(id);
      this.#tell([], [], [former]);
    }
  }

  /** @param {Item[]} [items] */
  #onSync(items) {
    this.#synced = true;
    if (items) {
      this.#replace(items);
    }
    this.#onReady(this);
    this.#dispatch("sync");
  }

  /** @param {Item[]} items */
  #replace(items) {
    const gone = new Map(this);
    const order = [...this.keys()];
    /** @type {Item[]} */
    const added = [];
    /** @type {Item[]} */
    const updated = [];
    super.clear();
    for (const item of items) {
      const former = gone.get(item.id);
      const same = former && isSame(former, item);
      if (!same) {
        (former ? updated : added).push(item);
      }
      super.set(item.id, same ? former : item);
      gone.delete(item.id);
    }
    const moved = items.some(({ id }, index) => id !== order[index]);
    if (moved || updated.length || gone.size) {
      this.#tell(added, updated, [...gone.values()]);
    }
  }

  /** @param {import("./errors.js").PubSubError} error */
  #onError(error) {
    if (this.#heard) {
      this.#dispatch("error", error);
    } else {
      console.warn(`${this.node}: ${error.message}`);
    }
  }

  /** @param {Item[]} added @param {Item[]} updated @param {Item[]} removed */
  #tell(added, updated, removed) {
    this.#dispatch("change", { added, updated, removed });
  }

  /** @param {string} type @param {unknown} [detail] */
  #dispatch(type, detail) {
    this.#events.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

// Private

/** @param {Item} former @param {Item} item */
function isSame(former, item) {
  return former === item || Boolean(former.entry?.isEqualNode(item.entry));
}

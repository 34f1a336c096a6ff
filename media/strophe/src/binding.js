import { comparison, fieldsOf, staying } from "./order.js";
import { fill, parts, ROW } from "./rows.js";

/** @typedef {import("./collection.js").Collection} Collection */
/** @typedef {import("./payloads.js").Item} Item */

/**
 * @typedef {object} Settings
 * @property {string} node
 * @property {Element} model  what a row is a copy of
 * @property {boolean} byFields  whether it shows fields; else the page fills it
 * @property {((one: Item, other: Item) => number) | undefined} compare
 * @property {number} limit
 */

const LIST = "data-pubsub-collection";

/** Clocks differ, and a view reads its rows before the page is rendered. */
const MARGIN = 60_000; // milliseconds
/** Where there are no animation frames. */
const WITHOUT_FRAMES = 100; // milliseconds

/** @type {WeakMap<Element, () => void>} what undoes it */
const bound = new WeakMap();

/**
 * Keeps the lists of a page true: see PubSubClient.bind().
 * @param {ParentNode} root
 * @param {(node: string) => Collection} follow
 * @param {string} [since]  when the page was rendered
 * @returns {() => void} undoes it
 */
export function bind(root, follow, since = "") {
  const found = [...root.querySelectorAll(`[${LIST}]`)];
  if (root instanceof Element && root.hasAttribute(LIST)) {
    found.unshift(root);
  }
  const settings = found.map(settingsOf); // all are checked before the first is touched
  const undos = found.map((element, index) => {
    const undo = bound.get(element) ?? start(element, settings[index], follow, since);
    bound.set(element, undo);
    return undo;
  });
  return undos.length === 1 ? undos[0] : () => undos.forEach((undo) => undo());
}

/** One element of the page, whose rows are the items of a collection. */
class List {
  #element;
  #settings;
  #collection;
  #fresh;
  #synced = false;
  #ended = false;
  /** @type {string[]} in the order of the last time: hardly anything to sort */
  #ids = [];
  /** @type {WeakSet<Item>} what came while the page was open */
  #news = new WeakSet();
  /** @type {WeakMap<Element, Item>} what the rows show */
  #shown = new WeakMap();
  #frame = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {Element} element
   * @param {Settings} settings
   * @param {Collection} collection
   * @param {number} fresh  what was published from then on the page may not show
   */
  constructor(element, settings, collection, fresh) {
    // The collection holds us: an element that the page has forgotten must not stay with it.
    this.#element = new WeakRef(element);
    this.#settings = settings;
    this.#collection = collection;
    this.#fresh = fresh;
    collection.addEventListener("change", ({ detail }) => this.#onChange(detail));
    collection.ready.then(() => this.#later());
  }

  undo() {
    this.#ended = true;
    this.#collection.close();
    const element = this.#element.deref();
    if (element) {
      bound.delete(element);
    }
  }

  // Private

  /** @param {import("./collection.js").Change} change */
  #onChange({ added, updated }) {
    // The first synchronization says what there is; all else says what is new.
    if (this.#synced || !this.#collection.synced) {
      [...added, ...updated].forEach((item) => this.#news.add(item));
    }
    this.#synced = this.#collection.synced;
    this.#later();
  }

  /**
   * Draws at most once for each frame. A tab in the background has none: there a timer draws, as
   * seldom as the browser wants, and a frame before anybody sees the tab again.
   */
  #later() {
    if (this.#collection.synced && !this.#timer) {
      this.#timer = setTimeout(() => this.#draw(), WITHOUT_FRAMES);
      this.#frame = requestAnimationFrame(() => this.#draw());
    }
  }

  #draw() {
    clearTimeout(this.#timer);
    cancelAnimationFrame(this.#frame);
    this.#timer = undefined;
    const element = this.#element.deref();
    if (!element) {
      this.undo();
    } else if (!this.#ended) {
      this.#reconcile(element, this.#items());
    }
  }

  /** The items to be shown. Where a row shows fields, an item without any has nothing to say. */
  #items() {
    const all = this.#collection;
    const { byFields, compare, limit } = this.#settings;
    const items = [...(compare ? new Set([...this.#ids, ...all.keys()]) : all.keys())]
      .map((id) => /** @type {Item} */ (all.get(id)))
      .filter((item) => item && (!byFields || fieldsOf(item)));
    if (compare) {
      this.#ids = items.sort(compare).map(({ id }) => id);
    }
    return items.slice(0, limit);
  }

  /** @param {Element} element @param {Item[]} items */
  #reconcile(element, items) {
    const rows = this.#rows(element, new Set(items.map(({ id }) => id)));
    const places = new Map([...rows.keys()].map((id, place) => [id, place]));
    const stay = staying(items.map(({ id }) => places.get(id) ?? -1));
    /** @type {Element | undefined} */
    const last = [...rows.values()].at(-1);
    let next = last ? last.nextSibling : templateOf(element) ?? null;
    /** @type {[Element, Item][]} */
    const filled = [];
    for (let index = items.length; index--; ) {
      const item = items[index];
      const row = rows.get(item.id) ?? this.#create(item.id);
      if (this.#fill(row, item)) {
        filled.push([row, item]);
      }
      if (!stay.has(index)) {
        move(element, row, next);
      }
      next = row;
    }
    for (const [row, item] of filled.reverse()) {
      row.dispatchEvent(new CustomEvent("pubsub:row", { bubbles: true, detail: { item } }));
    }
  }

  /**
   * The rows that are there, in order; those go that show nothing any more.
   * @param {Element} element
   * @param {Set<string>} ids
   */
  #rows(element, ids) {
    /** @type {Map<string, Element>} */
    const rows = new Map();
    const found = [...element.children].filter((child) => child.hasAttribute(ROW));
    if (!this.#collection.size && found.some((row) => !this.#shown.has(row))) {
      console.warn(
        `${this.#settings.node} is empty, so the page's rows go. If they were saved before their ` +
          "model was registered: publish_rows()",
      );
    }
    for (const row of found) {
      const id = row.getAttribute(ROW) ?? "";
      if (ids.has(id) && !rows.has(id)) {
        rows.set(id, row);
      } else {
        row.remove();
      }
    }
    return rows;
  }

  /** @param {string} id */
  #create(id) {
    const row = document.importNode(this.#settings.model, true);
    row.setAttribute(ROW, id);
    return row;
  }

  /**
   * Whether a row had to be filled: a row of Django's is as good as new, unless the item is newer.
   * @param {Element} row
   * @param {Item} item
   */
  #fill(row, item) {
    const former = this.#shown.get(row);
    const rendered = !former && row.parentNode;
    this.#shown.set(row, item);
    if (former === item || (rendered && !this.#isNews(item))) {
      return false;
    }
    fill(row, item, former);
    return true;
  }

  /** @param {Item} item */
  #isNews(item) {
    return this.#news.has(item) || Date.parse(item.published ?? "") >= this.#fresh;
  }
}

// Private

/**
 * @param {Element} element
 * @param {Settings} settings
 * @param {(node: string) => Collection} follow
 * @param {string} since
 */
function start(element, settings, follow, since) {
  const list = new List(element, settings, follow(settings.node), Date.parse(since) - MARGIN);
  return () => list.undo();
}

/**
 * What an element says of its list.
 * @param {Element} element
 * @returns {Settings}
 * @throws {Error} when it could never be one
 */
function settingsOf(element) {
  const tag = /** @type {Element} */ (element.cloneNode()).outerHTML;
  const models = templateOf(element)?.content.children ?? [];
  if (models.length !== 1) {
    throw new Error(`A list needs a <template> with one element, not ${models.length}: ${tag}`);
  }
  const order = element.getAttribute("data-pubsub-order");
  if (order !== null && !/^-?[^-]/.test(order)) {
    throw new Error(`A list's order is "pk" or a field, after a "-" for the reverse: ${tag}`);
  }
  const limit = Number(element.getAttribute("data-pubsub-limit") ?? Infinity);
  if (!(limit >= 1)) {
    throw new Error(`A list's limit is a number from 1 on: ${tag}`);
  }
  const model = /** @type {Element} */ (models[0].cloneNode(true));
  model.setAttribute(ROW, "");
  return {
    node: element.getAttribute(LIST) ?? "",
    model,
    byFields: parts(model).length > 0,
    compare: order === null ? undefined : comparison(order),
    limit,
  };
}

/** @param {Element} element */
function templateOf(element) {
  return [...element.children].find((child) => child instanceof HTMLTemplateElement);
}

/** @param {Element} list @param {Element} row @param {Node | null} next */
function move(list, row, next) {
  // Where the browser can, a row keeps its focus and its animations while it moves.
  const how = /** @type {any} */ (list).moveBefore;
  (how && row.parentNode === list ? how : list.insertBefore).call(list, row, next);
}

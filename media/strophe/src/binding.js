import { comparison, fieldsOf, staying } from "./order.js";
import { fill, parts, ROW } from "./rows.js";

/** @typedef {import("./collection.js").Collection} Collection */
/** @typedef {import("./payloads.js").Item} Item */

const LIST = "data-pubsub-collection";

/** Where there are no animation frames. */
const WITHOUT_FRAMES = 100; // milliseconds

/** @type {WeakMap<Element, List>} */
const bound = new WeakMap();

/**
 * Keeps the lists of a page true: see PubSubClient.bind().
 * @param {ParentNode} root
 * @param {(node: string) => Collection} follow
 * @returns {() => void} undoes it
 */
export function bind(root, follow) {
  const found = [...root.querySelectorAll(`[${LIST}]`)];
  if (root instanceof Element && root.hasAttribute(LIST)) {
    found.unshift(root);
  }
  // All are checked before the first is touched.
  const lists = found.map((element) => bound.get(element) ?? new List(element));
  lists.forEach((list) => list.follow(follow));
  return lists.length === 1 ? lists[0].undo : () => lists.forEach((list) => list.undo());
}

/** One element of the page, whose rows are the items of a collection. */
class List {
  #element;
  #node;
  /** What a row is a copy of. */
  #model;
  /** Whether it shows fields; else the page fills it. */
  #byFields;
  #compare;
  #limit;
  /** @type {Collection} */
  #collection = /** @type {any} */ (undefined);
  #ended = false;
  /** @type {string[]} in the order of the last time: hardly anything to sort */
  #ids = [];
  /** @type {WeakMap<Element, Item>} what the rows show */
  #shown = new WeakMap();
  #frame = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {Element} element
   * @throws {Error} when it could never be a list
   */
  constructor(element) {
    const models = templateOf(element)?.content.children ?? [];
    const order = element.getAttribute("data-pubsub-order") ?? undefined;
    const limit = Number(element.getAttribute("data-pubsub-limit") ?? Infinity);
    if (models.length !== 1 || !/^-?[^-]/.test(order ?? "pk") || !(limit >= 1)) {
      const tag = /** @type {Element} */ (element.cloneNode()).outerHTML;
      throw new Error(`${tag} needs a <template> with one element, a field as order, a limit from 1`);
    }
    // The collection holds us: an element that the page has forgotten must not stay with it.
    this.#element = new WeakRef(element);
    this.#node = element.getAttribute(LIST) ?? "";
    this.#model = document.importNode(models[0], true);
    this.#model.setAttribute(ROW, "");
    this.#byFields = parts(this.#model).length;
    this.#compare = order && comparison(order);
    this.#limit = limit;
  }

  /** @param {(node: string) => Collection} follow */
  follow(follow) {
    const element = this.#element.deref();
    if (element && !this.#collection) {
      this.#collection = follow(this.#node);
      bound.set(element, this);
      this.#collection.addEventListener("change", () => this.#later());
      // At once: who is told that the page is online finds it so.
      this.#collection.addEventListener("sync", () => this.#draw());
      this.#collection.addEventListener("error", ({ detail: error }) => this.#complain(error));
    }
  }

  undo = () => {
    this.#ended = true;
    this.#collection.close();
    const element = this.#element.deref();
    if (element) {
      bound.delete(element);
    }
  };

  // Private

  /** @param {Error} error */
  #complain(error) {
    const event = new CustomEvent("pubsub:error", { bubbles: true, cancelable: true, detail: { error } });
    if (this.#element.deref()?.dispatchEvent(event)) {
      console.warn(`${this.#node}: ${error.message}`);
    }
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
    const items = [...(this.#compare ? new Set([...this.#ids, ...all.keys()]) : all.keys())]
      .map((id) => /** @type {Item} */ (all.get(id)))
      .filter((item) => item && (!this.#byFields || fieldsOf(item)));
    if (this.#compare) {
      this.#ids = items.sort(this.#compare).map(({ id }) => id);
    }
    return items.slice(0, this.#limit);
  }

  /** @param {Element} element @param {Item[]} items */
  #reconcile(element, items) {
    const there = this.#rows(element, new Set(items.map(({ id }) => id)));
    const rows = items.map(({ id }) => there.get(id) ?? this.#create(id));
    const places = new Map([...there.values()].map((row, place) => [row, place]));
    const stay = staying(rows.map((row) => places.get(row) ?? -1));
    const last = [...there.values()].at(-1);
    let next = last ? last.nextSibling : templateOf(element) ?? null;
    const filled = rows.filter((row, index) => this.#fill(row, items[index]));
    for (let index = rows.length; index--; ) {
      if (!stay.has(index)) {
        move(element, rows[index], next);
      }
      next = rows[index];
    }
    for (const row of filled) {
      const detail = { item: this.#shown.get(row) };
      row.dispatchEvent(new CustomEvent("pubsub:row", { bubbles: true, detail }));
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
      console.warn(`${this.#node} is empty; publish_rows() brings in what was saved before`);
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
    const row = /** @type {Element} */ (this.#model.cloneNode(true));
    row.setAttribute(ROW, id);
    return row;
  }

  /**
   * Whether a row had to be filled. One of Django's has to be, too: when its item was committed, and
   * whether the page shows that state of it, no time can tell for sure.
   * @param {Element} row
   * @param {Item} item
   */
  #fill(row, item) {
    const former = this.#shown.get(row);
    this.#shown.set(row, item);
    if (former !== item) {
      fill(row, item, former);
    }
    return former !== item;
  }
}

// Private

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

// What a page knows of a node, and what is news to it. Pure.

import { readMark } from "./payloads.js";
import { NEWS, Repeats, STALE } from "./repeats.js";

/** @typedef {import("./stanzas.js").Item} Item */
/** @typedef {import("./stanzas.js").LastNotification} Last */
/** @typedef {import("./stanzas.js").Notification} Notification */

/**
 * What the page that is shown says of a node: since when it may not be up to date (ISO 8601), and
 * whether no item of the node is ever overwritten.
 * @typedef {{since?: string, log?: boolean}} Rendered
 */

/** How far the clocks of the site's machines may be apart, in milliseconds. */
const MARGIN = 60_000;

/**
 * What a page knows of a node.
 *
 * The answers are moments: only who came at that moment or later has to be told (repeats.js).
 */
export class Knowledge {
  #repeats = new Repeats();
  /** @type {string | undefined} the name of what was published last, if that is known */
  #heard;
  /** The server's time of what was published last at the end of the last catch-up. */
  #stamp = "";
  /** Whether there was a time at which all items of the node were known. */
  #whole = false;
  /** The page shows what was published before, in milliseconds since 1970; NaN: nobody knows. */
  #since;
  /** What the server has got before, by its own clock, the page shows or was told of. */
  #bound;

  /** @param {Rendered} [rendered] */
  constructor({ since = "", log = false } = {}) {
    this.#since = Date.parse(since);
    this.#bound = this.#since - MARGIN;
    /** @readonly */
    this.log = log;
  }

  /** This moment. */
  get now() {
    return this.#repeats.now;
  }

  /** From when on a log has to be asked for, as ISO 8601; undefined: from its beginning. */
  get bound() {
    return Number.isNaN(this.#bound) ? undefined : new Date(this.#bound).toISOString();
  }

  /**
   * What was created on the server since then is news if nothing is known of it, as ISO 8601;
   * undefined where it does not take a time to tell.
   */
  get since() {
    const isTold = this.#whole || Number.isNaN(this.#since);
    return isTold ? undefined : new Date(this.#since).toISOString();
  }

  /** The ids of the items that are there, as far as is known. */
  get alive() {
    return this.#repeats.alive;
  }

  /** @param {string} id  whether anything was told of it */
  knows(id) {
    return this.#repeats.knows(id);
  }

  /** Something may have been missed. */
  interrupted() {
    this.#repeats.interrupted();
  }

  /**
   * Whether nothing has been published since the page heard or showed it.
   * @param {Last} last  what the server says was published last
   */
  isUpToDate({ item, stamp }) {
    const time = Date.parse(stamp);
    if (Number.isNaN(this.#bound) && !this.#whole) {
      this.#since = this.#bound = time + 1; // what was there when the page came is no news to it
    }
    const heard = this.#heard !== undefined && this.#heard === name(item);
    return heard || stamp === this.#stamp || time < this.#bound;
  }

  /**
   * An event has come.
   * @param {Notification} notification
   */
  event(notification) {
    switch (notification.kind) {
      case "item": {
        const { item } = notification;
        this.#heard = name(item);
        return this.#repeats.item(item.id, readMark(item));
      }
      case "retract":
        if (this.#heard?.startsWith(`${notification.id}\n`)) {
          this.#heard = undefined; // what was published before it nobody has remembered
        }
        return this.#repeats.retract(notification.id);
      default:
        return STALE;
    }
  }

  /**
   * An item was found on the server: NEWS, or else nobody has to hear of it.
   * @param {Item} item
   * @param {boolean} isNew  whether it was created on the server since the page was rendered
   */
  found(item, isNew) {
    const { id, published = "" } = item;
    const fresh = isNew || this.#whole || this.knows(id) || Date.parse(published) >= this.#since;
    return this.#repeats.found(id, readMark(item), !fresh);
  }

  /**
   * The ids that are not among those found on the server. Each is known as gone from then on.
   * @param {Map<string, Item>} found
   */
  *gone(found) {
    for (const id of this.alive) {
      if (!found.has(id) && this.#repeats.retract(id) === NEWS) {
        yield id;
      }
    }
  }

  /**
   * All that was missed is known now.
   * @param {boolean} whole  and all that the node holds
   * @param {Last} [last]
   */
  caughtUp(whole, last) {
    this.#whole ||= whole;
    this.#heard = last && name(last.item);
    this.#stamp = last?.stamp ?? "";
    if (this.log && last) {
      this.#bound = Math.max(this.#bound || 0, Date.parse(last.stamp) - MARGIN);
    }
  }
}

// Private

/**
 * What no other publication of the node is called; undefined where two may look the same.
 * @param {Item} item
 */
function name(item) {
  const { seq, at } = readMark(item);
  return seq || at ? `${item.id}\n${seq || at}` : undefined;
}

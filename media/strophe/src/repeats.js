// Which items of a node are repeats: a publisher that crashed sends some of them again. Pure.

/** How many ids of a node are remembered. */
const REMEMBERED = 10_000;

/** A moment that all listeners have seen, so that all have to hear what is news since then. */
export const NEWS = 0;
/** A moment that no listener lives to see. */
const STALE = Infinity;

/**
 * What was told last of an id.
 *
 * @typedef {object} Known
 * @property {string} source  of its last numbered item; "" where there was none
 * @property {string} number  digits, as many as it takes
 * @property {number} told  at which moment
 * @property {boolean} gone  whether it was taken back
 */

/**
 * The memory of one node.
 *
 * Items are numbered by their source, "source.number"; a retraction cannot bear a number. The
 * answers are moments: only who came at that moment or later has to be told.
 */
export class Repeats {
  /** How many notifications there were: a listener that comes now has heard none of them. */
  now = NEWS;
  #gap = NEWS;
  /** @type {Map<string, Known>} what was told last comes last */
  #known = new Map();

  /**
   * An item has come.
   * @param {string} id
   * @param {string} [seq]  without a number it is always news
   */
  item(id, seq = "") {
    this.now++;
    const known = this.#known.get(id) ?? UNKNOWN;
    const state = { ...known, told: this.now, gone: false };
    const [, source, number] = /^([a-z0-9]+)\.0*(\d+)$/.exec(seq) ?? [];
    if (number === undefined) {
      // Whether what is numbered comes before or after it nobody knows.
      return known === UNKNOWN ? NEWS : this.#keep(id, { ...state, source: "", number: "" });
    }
    const step = known.source === source ? compare(number, known.number) : 1;
    if (step < 0) {
      return STALE;
    }
    if (step === 0 && !known.gone) {
      return this.#repeated(known);
    }
    // The same number after a retraction is news: that may have been a repeat of an earlier one. If
    // it was not, it is repeated as well, in a moment.
    return this.#keep(id, { ...state, source, number });
  }

  /**
   * A retraction has come.
   * @param {string} id
   */
  retract(id) {
    this.now++;
    const known = this.#known.get(id) ?? UNKNOWN;
    if (known.gone && known.told > this.#gap) {
      return this.#repeated(known);
    }
    return this.#keep(id, { ...known, told: this.now, gone: true });
  }

  /** Something may have been missed: what is known as gone may have come back, and go anew. */
  interrupted() {
    this.#gap = this.now;
  }

  // Private

  /** @param {Known} known */
  #repeated(known) {
    const { told } = known;
    known.told = this.now;
    return told;
  }

  /** @param {string} id @param {Known} known */
  #keep(id, known) {
    this.#known.delete(id);
    this.#known.set(id, known);
    if (this.#known.size > REMEMBERED) {
      this.#known.delete(/** @type {string} */ (this.#known.keys().next().value));
    }
    return NEWS;
  }
}

/** @type {Known} */
const UNKNOWN = { source: "", number: "", told: NEWS, gone: false };

/**
 * Below, at or above 0, as the first number is less, the same or greater. No type holds all of
 * them exactly.
 * @param {string} a  digits without leading zeros
 * @param {string} b
 */
function compare(a, b) {
  return a.length - b.length || (a < b ? -1 : Number(a > b));
}

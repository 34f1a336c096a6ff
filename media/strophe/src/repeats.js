// Which items of a node are repeats: a publisher that crashed sends some of them again. Pure.

/** @typedef {import("./payloads.js").Mark} Mark */

/** How many ids of a node are remembered: twice as many as ejabberd keeps at most. */
const REMEMBERED = 20_000;

/** A moment that all listeners have seen, so that all have to hear what is news since then. */
export const NEWS = 0;
/** A moment that no listener lives to see. */
export const STALE = Infinity;

/**
 * What was told last of an id.
 *
 * @typedef {object} Known
 * @property {string} source  of its last numbered item; "" where there was none
 * @property {string} number  digits, as many as it takes
 * @property {string} at
 * @property {string} print
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
   * @param {Mark} mark
   */
  item(id, mark) {
    const state = this.#state(mark);
    const known = this.#known.get(id) ?? UNKNOWN;
    // Whether what has no number comes before or after what has one nobody knows.
    const again = mark.at !== "" && mark.at === known.at;
    const step = !state.number ? Number(!again) : known.source === state.source ? compare(state.number, known.number) : 1;
    if (step < 0) {
      return STALE;
    }
    if (step === 0 && !known.gone) {
      return this.#repeated(known);
    }
    // The same again after a retraction is news: that may have been a repeat of an earlier one. If
    // it was not, it is repeated as well, in a moment.
    return this.#keep(id, state);
  }

  /**
   * An item was found on the server: what stands there is the truth, even if it is older than what
   * was told.
   * @param {string} id
   * @param {Mark} mark
   * @param {boolean} silently  nobody is told: if it comes as an event yet, it is news
   */
  found(id, mark, silently) {
    const known = this.#known.get(id) ?? UNKNOWN;
    if (known.print === mark.print && !known.gone) {
      return STALE;
    }
    const state = this.#state(mark);
    this.#keep(id, silently ? { ...state, told: NEWS } : state);
    return silently ? STALE : NEWS;
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

  /** @param {string} id  whether anything was told of it */
  knows(id) {
    return this.#known.has(id);
  }

  /** The ids of the items that are there, as far as is known. */
  get alive() {
    return [...this.#known].flatMap(([id, { gone }]) => (gone ? [] : [id]));
  }

  // Private

  /** @param {Mark} mark @returns {Known} */
  #state({ seq, at, print }) {
    const [, source = "", number = ""] = /^([a-z0-9]+)\.0*(\d+)$/.exec(seq) ?? [];
    return { source, number, at, print, told: ++this.now, gone: false };
  }

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
const UNKNOWN = { source: "", number: "", at: "", print: "", told: NEWS, gone: false };

/**
 * Below, at or above 0, as the first number is less, the same or greater. No type holds all of
 * them exactly.
 * @param {string} a  digits without leading zeros
 * @param {string} b
 */
function compare(a, b) {
  return a.length - b.length || (a < b ? -1 : Number(a > b));
}

// The order of a list's rows: what the fields of items hold, and which rows have to move. Pure.

/** @typedef {import("./payloads.js").Item} Item */
/** @typedef {[rank: number, value: any, text: string]} Key */

// The same for everybody, whatever his language: all sessions show one state.
const collator = new Intl.Collator("en");

/**
 * What an item says of a field; "pk" is its id.
 * @param {Item} item
 * @param {string} name
 * @returns {unknown}
 */
export function valueOf(item, name) {
  return name === "pk" ? item.id : fieldsOf(item)?.[name];
}

/**
 * An item's fields, from XML or JSON; nothing for a text or another value without names.
 * @param {Item} item
 * @returns {Record<string, unknown> | undefined}
 */
export function fieldsOf({ fields, data }) {
  return fields ?? (data === Object(data) ? data : undefined);
}

/**
 * A function that compares items by a field, and by their ids where that is the same.
 *
 * Nothing is less than numbers, numbers than dates, dates than text; a text that is a number counts
 * as one, for decimals come as text.
 * @param {string} order  "pk" or a field; "-field" is the reverse
 * @returns {(one: Item, other: Item) => number}
 */
export function comparison(order) {
  const name = order.replace(/^-/, "");
  const sign = name === order ? 1 : -1;
  /** @type {WeakMap<Item, Key[]>} */
  const known = new WeakMap();
  const keys = (/** @type {Item} */ item) => {
    const found = known.get(item) ?? [valueOf(item, name), item.id].map(keyOf);
    known.set(item, found);
    return found;
  };
  return (one, other) => {
    const [a, b] = [keys(one), keys(other)];
    return sign * (compare(a[0], b[0]) || compare(a[1], b[1]));
  };
}

/**
 * Which rows may stay where they are, as many as can be: a longest rising sequence of their places.
 * @param {number[]} places  where each row is, in the order wanted; -1 for a new one
 * @returns {Set<number>} indexes into `places`
 */
export function staying(places) {
  /** @type {number[]} of each length the sequence with the lowest end: the index of that */
  const ends = [];
  /** @type {number[]} */
  const before = [];
  places.forEach((place, index) => {
    if (place >= 0) {
      let low = 0;
      for (let high = ends.length; low < high; ) {
        const middle = (low + high) >> 1;
        if (places[ends[middle]] < place) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      before[index] = ends[low - 1];
      ends[low] = index;
    }
  });
  const stay = new Set();
  for (let index = ends.at(-1); index !== undefined; index = before[index]) {
    stay.add(index);
  }
  return stay;
}

// Private

/** @param {unknown} value @returns {Key} */
function keyOf(value) {
  const text = String(value ?? "");
  const number = text.trim() ? Number(value) : NaN;
  const time = /^\d{4}-\d\d-\d\d(T|$)/.test(text) ? Date.parse(text) : NaN;
  if (!Number.isNaN(number)) {
    return [1, number, text];
  }
  if (!Number.isNaN(time)) {
    return [2, time, text];
  }
  return [value === null || value === undefined ? 0 : 3, text, text];
}

/**
 * Beyond what a number or a Date holds, in long ids and microseconds, the text decides.
 * @param {Key} a
 * @param {Key} b
 */
function compare([rank, value, text], [otherRank, otherValue, otherText]) {
  return (
    rank - otherRank ||
    (rank === 3 ? collator.compare(value, otherValue) : value - otherValue) ||
    text.length - otherText.length ||
    (text < otherText ? -1 : Number(text > otherText))
  );
}

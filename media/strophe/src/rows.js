// A row of a list shows an item: its fields as text, and in attributes that can do no harm.

import { valueOf } from "./order.js";
import { report } from "./report.js";

/** @typedef {import("./payloads.js").Item} Item */

export const ROW = "data-pubsub-id";
const FIELD = "data-pubsub-field";
const ATTR = "data-pubsub-attr";
const PART = `[${FIELD}],[${ATTR}]`;

// Attributes that run nothing by themselves.
const NAME = /^(?!(on.*|style|srcdoc)$)[\w:.-]+$/i;
// Attributes that hold an address, those of SVG and of animations that set one among them.
const ADDRESS =
  /^(.*:)?(href|src(set)?|(form)?action|poster|cite|data|background|ping|from|to|by|values)$/i;
const HARMLESS = /^(https?|mailto|tel):$/;

/** @type {Set<string>} */
const reported = new Set();

/**
 * What has to be filled in a row: not what belongs to the rows of a list inside of it.
 * @param {Element} row
 */
export function parts(row) {
  return [row, ...row.querySelectorAll(PART)].filter(
    (part) => part.matches(PART) && part.closest(`[${ROW}]`) === row,
  );
}

/**
 * Writes an item into a row, where it says something else than what is there.
 *
 * What has not changed since the former item is left alone: the page may have put something better
 * in its place.
 * @param {Element} row
 * @param {Item} item
 * @param {Item} [former]  what the row was filled from before
 */
export function fill(row, item, former) {
  const isSame = (/** @type {string} */ field) =>
    former && JSON.stringify(valueOf(former, field)) === JSON.stringify(valueOf(item, field));
  for (const part of parts(row)) {
    if (/^(script|style)$/.test(part.localName)) {
      refuse(`<${part.localName}>`, part.getAttribute(FIELD) ?? ""); // it would be run
      continue;
    }
    for (const pair of part.getAttribute(ATTR)?.match(/\S+/g) ?? []) {
      const [, name = "", field = ""] = /^(.+):(.+)$/.exec(pair) ?? [];
      if (!isSame(field)) {
        setAttribute(part, name, valueOf(item, field), pair);
      }
    }
    const field = part.getAttribute(FIELD);
    const text = field && textOf(valueOf(item, field));
    if (field && !isSame(field) && part.textContent !== text) {
      part.textContent = text;
    }
  }
}

/**
 * Whether a value may stand in an attribute: an address must be one that runs nothing.
 * @param {string} name
 * @param {string} text
 */
export function isHarmless(name, text) {
  try {
    const { protocol } = new URL(ADDRESS.test(name) ? text : "", "https://relative");
    return NAME.test(name) && HARMLESS.test(protocol);
  } catch {
    return false;
  }
}

// Private

/** @param {Element} element @param {string} name @param {unknown} value @param {string} pair */
function setAttribute(element, name, value, pair) {
  const spoken = /^(aria|data)-/.test(name); // there false is a value, and no absence
  const text = value === true && !spoken ? "" : textOf(value);
  const harmless = isHarmless(name, text);
  if (!harmless) {
    refuse(`${ATTR}="${pair}"`, text);
  }
  if (!harmless || value === undefined || value === null || (value === false && !spoken)) {
    element.removeAttribute(name);
  } else if (element.getAttribute(name) !== text) {
    element.setAttribute(name, text);
  }
}

/** @param {unknown} value */
function textOf(value) {
  return value === Object(value) ? JSON.stringify(value) : String(value ?? "");
}

/** @param {string} where @param {string} text */
function refuse(where, text) {
  if (!reported.has(where)) {
    reported.add(where);
    report(new Error(`${where} refuses ${JSON.stringify(text.slice(0, 200))}`));
  }
}

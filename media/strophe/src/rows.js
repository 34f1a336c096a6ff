// A row of a list shows an item: its fields as text, and in attributes that can do no harm.

import { valueOf } from "./order.js";
import { report } from "./report.js";

/** @typedef {import("./payloads.js").Item} Item */

export const ROW = "data-pubsub-id";
const FIELD = "data-pubsub-field";
const ATTR = "data-pubsub-attr";
const PART = `[${FIELD}],[${ATTR}]`;

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
  /** @param {string} field @param {(value: unknown) => void} write */
  const change = (field, write) => {
    const value = valueOf(item, field);
    if (!former || JSON.stringify(valueOf(former, field)) !== JSON.stringify(value)) {
      write(value);
    }
  };
  for (const element of parts(row)) {
    for (const pair of element.getAttribute(ATTR)?.match(/\S+/g) ?? []) {
      const [, name = "", field = ""] = /^(.+):(.+)$/.exec(pair) ?? [];
      change(field, (value) => setAttribute(element, name, value, pair));
    }
    const field = element.getAttribute(FIELD);
    if (field) {
      change(field, (value) => setText(element, textOf(value), field));
    }
  }
}

/**
 * Whether a value may stand in an attribute: an address must be one that runs nothing.
 * @param {string} name
 * @param {string} text
 */
export function isHarmless(name, text) {
  if (!/^[\w:.-]+$/.test(name) || /^(on.*|style|srcdoc)$/i.test(name)) {
    return false;
  }
  try {
    return !ADDRESS.test(name) || HARMLESS.test(new URL(text, "https://relative").protocol);
  } catch {
    return false;
  }
}

// Private

/** @param {Element} element @param {string} text @param {string} field */
function setText(element, text, field) {
  if (/^(script|style)$/i.test(element.localName)) {
    refuse(`${FIELD}="${field}" in <${element.localName}>`, text);
  } else if (element.textContent !== text) {
    element.textContent = text;
  }
}

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

/** @param {string} what @param {string} text */
function refuse(what, text) {
  if (!reported.has(what)) {
    reported.add(what);
    report(new Error(`${what} may not be ${JSON.stringify(text.slice(0, 200))}`));
  }
}

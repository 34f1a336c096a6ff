// What an item carries: builds and reads the <entry>. Pure; design.md §4 is the format.

import { child, children, escapeXml, xml } from "./xml.js";

const ATOM = "http://www.w3.org/2005/Atom";
const JSON_NS = "urn:xmpp:json:0";
const META_NS = "urn:django-pubsub:1";

/** @typedef {string | number | boolean | null | unknown[] | object} FieldValue */

/**
 * One thing published. What an item does not have is undefined.
 *
 * @typedef {object} Item
 * @property {string} node
 * @property {string} id  the primary key of a model instance, else what the server chose
 * @property {string} [event]  "created", "updated", …
 * @property {string} [published]  when, as ISO 8601 text
 * @property {string} [origin]  the public form of the id of the page whose request published it
 * @property {Element | null} entry  the payload, normally an Atom <entry>
 * @property {Record<string, FieldValue>} [fields]  of a model instance in Django's XML
 * @property {any} [data]  of a JSON payload
 */

/**
 * A payload as XML text: text, an element, or anything that JSON can carry.
 *
 * An element that is not an <entry> yet is wrapped in one.
 * @param {unknown} payload
 */
export function buildEntry(payload) {
  if (typeof payload === "string") {
    return xml("entry", { xmlns: ATOM }, escapeXml(payload));
  }
  if (isElement(payload)) {
    const text = new XMLSerializer().serializeToString(payload);
    return payload.localName === "entry" ? text : xml("entry", { xmlns: ATOM }, text);
  }
  const json = JSON.stringify(payload);
  if (json === undefined) {
    throw new TypeError(`Cannot publish ${String(payload)}: pass text, an Element or JSON data`);
  }
  return xml("entry", { xmlns: ATOM }, xml("json", { xmlns: JSON_NS }, escapeXml(json)));
}

/**
 * An <item> as the page gets it.
 * @param {Element} element
 * @param {string} node
 * @param {(problem: Error) => void} [onProblem]  hears of what could not be read
 * @returns {Item}
 */
export function readItem(element, node, onProblem = () => {}) {
  const entry = child(element) ?? null;
  const meta = entry && child(entry, "meta", META_NS);
  return {
    node,
    id: element.getAttribute("id") ?? "",
    event: meta?.getAttribute("event") ?? undefined,
    published: meta?.getAttribute("at") ?? undefined,
    origin: meta?.getAttribute("origin") ?? undefined,
    entry,
    fields: entry ? readFields(entry) : undefined,
    data: entry ? readData(entry, onProblem) : undefined,
  };
}

/**
 * Whether an item says but that it is gone: a server that was killed may not let go of it.
 * @param {Item} item
 */
export function isGone({ event, entry }) {
  return event === "deleted" && entry?.childNodes.length === 1;
}

/**
 * What tells the publications of one item apart.
 *
 * @typedef {object} Mark
 * @property {string} seq  its number, "source.number"; "" where the publisher gives none
 * @property {string} at  when it was published; "" where the publisher does not say
 * @property {string} print  the number, else the time, else all that the item carries
 */

/**
 * @param {Item} item
 * @returns {Mark}
 */
export function readMark({ entry, published }) {
  const seq = (entry && child(entry, "meta", META_NS)?.getAttribute("seq")) ?? "";
  const at = published ?? "";
  const print = () => (entry ? new XMLSerializer().serializeToString(entry) : "");
  return { seq, at, print: seq || at || print() };
}

// Private

/** @param {unknown} value @returns {value is Element} */
function isElement(value) {
  return typeof value === "object" && value !== null && "nodeType" in value && value.nodeType === 1;
}

/** @param {Element} entry @param {(problem: Error) => void} onProblem */
function readData(entry, onProblem) {
  const json = child(entry, "json", JSON_NS);
  if (!json) {
    return undefined;
  }
  const text = json.textContent ?? "";
  try {
    return JSON.parse(text);
  } catch (cause) {
    onProblem(new Error(`An item's JSON cannot be read: ${text.slice(0, 200)}`, { cause }));
    return undefined;
  }
}

/**
 * The fields in Django's XML. An instance with parents comes as several objects: one record.
 * @param {Element} entry
 */
function readFields(entry) {
  const root = child(entry, "django-objects");
  const fields = root && children(root, "object").flatMap((object) => children(object, "field"));
  return fields && Object.fromEntries(fields.map((f) => [f.getAttribute("name") ?? "", readField(f)]));
}

/** @param {Element} field @returns {FieldValue} */
function readField(field) {
  const inner = children(field);
  if (inner[0]?.localName === "None") {
    return null;
  }
  if (field.getAttribute("rel") === "ManyToManyRel") {
    return inner.map((object) => object.getAttribute("pk") ?? naturalKey(object));
  }
  if (inner[0]?.localName === "natural") {
    return naturalKey(field);
  }
  return typed(field.getAttribute("type") ?? "", field.textContent ?? "");
}

/** @param {Element} element */
function naturalKey(element) {
  return children(element, "natural").map((part) => part.textContent ?? "");
}

/**
 * What JavaScript can hold exactly becomes a value; dates, decimals and the rest stay text.
 * @param {string} type  the field's class in Django
 * @param {string} text
 * @returns {FieldValue}
 */
function typed(type, text) {
  const number = text.trim() === "" ? NaN : Number(text);
  if (/^(Small|Big)?AutoField$|^(Positive)?(Small|Big)?IntegerField$/.test(type)) {
    return Number.isSafeInteger(number) ? number : text;
  }
  switch (type) {
    case "FloatField":
      return Number.isFinite(number) ? number : text;
    case "BooleanField":
    case "NullBooleanField":
      return text === "True" ? true : text === "False" ? false : text;
    case "JSONField":
      return parsedOrText(text);
    default:
      return text;
  }
}

/** @param {string} text */
function parsedOrText(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

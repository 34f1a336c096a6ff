// XEP-0060 stanzas: builds text, reads elements. Pure: no network, no page.

import { PubSubError } from "./errors.js";
import { buildEntry, isGone, readItem } from "./payloads.js";
import { child, children, escapeXml, xml } from "./xml.js";

const CLIENT = "jabber:client";
const DELAY = "urn:xmpp:delay";
const ERRORS = "http://jabber.org/protocol/pubsub#errors";
const EVENT = "http://jabber.org/protocol/pubsub#event";
const PUBSUB = "http://jabber.org/protocol/pubsub";
const RSM = "http://jabber.org/protocol/rsm";
const STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas";

/** @typedef {import("./payloads.js").Item} Item */

/**
 * The inside of an <iq>, before it gets an address and an id.
 * @typedef {{type: "get" | "set", content: string}} Request
 */

/** @typedef {{kind: "item", node: string, item: Item}} ItemNotification */

/**
 * What a new subscriber is sent: the item that was published or overwritten last, and when. It is
 * no event.
 * @typedef {{kind: "last", node: string, item: Item, stamp: string}} LastNotification
 */

/**
 * One thing that a message tells of a node, in the order of the message. After an "end" there is no
 * subscription, or no item is left: the node was deleted or purged, or its owner ended it.
 * @typedef {ItemNotification
 *   | {kind: "retract", node: string, id: string}
 *   | LastNotification
 *   | {kind: "end", node: string}} Notification
 */

/**
 * Which of a node's items, in the order in which they were created there (XEP-0059).
 * @typedef {object} Paging
 * @property {number} max  at most so many; 0 only counts
 * @property {string} [after]  created later than that, as ISO 8601 text
 */

/**
 * A part of a node's items.
 * @typedef {object} Page
 * @property {Item[]} items
 * @property {string} [next]  after which time the next page begins; undefined on the last one
 * @property {number} [count]  how many items the node has in all
 */

/**
 * Asks for a node's events (XEP-0060 §6.1).
 * @param {string} node
 * @param {string} jid  who gets them
 * @returns {Request}
 */
export function subscribe(node, jid) {
  return pubsub("set", xml("subscribe", { node, jid }));
}

/**
 * Asks for them no longer (§6.2).
 * @param {string} node
 * @param {string} jid
 * @returns {Request}
 */
export function unsubscribe(node, jid) {
  return pubsub("set", xml("unsubscribe", { node, jid }));
}

/**
 * Publishes one item (§7.1): ejabberd takes one at a time.
 * @param {string} node
 * @param {unknown} payload  text, an Element, or what JSON can carry
 * @param {string} [id]  by default the server chooses
 * @returns {Request}
 */
export function publish(node, payload, id) {
  return pubsub("set", xml("publish", { node }, xml("item", { id }, buildEntry(payload))));
}

/**
 * Asks for items that the node keeps (§6.5).
 * @param {string} node
 * @param {Paging} paging
 * @returns {Request}
 */
export function items(node, { max, after }) {
  const bounds = [xml("max", {}, String(max))];
  if (after !== undefined) {
    bounds.push(xml("after", {}, escapeXml(after)));
  }
  return pubsub("get", xml("items", { node }), xml("set", { xmlns: RSM }, ...bounds));
}

/**
 * A sign of life is asked for (XEP-0199).
 * @returns {Request}
 */
export function ping() {
  return { type: "get", content: xml("ping", { xmlns: "urn:xmpp:ping" }) };
}

/**
 * A request on its way.
 * @param {string} to
 * @param {string} id
 * @param {Request} request
 */
export function iq(to, id, { type, content }) {
  return xml("iq", { xmlns: CLIENT, to, id, type }, content);
}

/**
 * What a <message> tells of nodes; nothing when it is none of XEP-0060's.
 * @param {Element} message
 * @param {(problem: Error) => void} [onProblem]
 * @returns {Notification[]}
 */
export function parseEvent(message, onProblem) {
  if (message.getAttribute("type") === "error") {
    return [];
  }
  const event = child(message, "event", EVENT);
  const told = event ? children(event).flatMap((part) => notifications(part, onProblem)) : [];
  const stamp = child(message, "delay", DELAY)?.getAttribute("stamp");
  return typeof stamp === "string" ? told.flatMap((one) => last(one, stamp)) : told;
}

/**
 * The answer to `items()`.
 * @param {Element} answer
 * @param {(problem: Error) => void} [onProblem]
 * @returns {Page}
 */
export function parseItems(answer, onProblem) {
  const list = within(answer, "items");
  const node = list?.getAttribute("node") ?? "";
  const elements = list ? children(list, "item") : [];
  const set = within(answer, "set");
  const text = (/** @type {string} */ name) => (set && child(set, name)?.textContent) || undefined;
  const count = Number(text("count"));
  const behind = Number(set && child(set, "first")?.getAttribute("index")) + elements.length;
  return {
    items: elements.map((item) => readItem(item, node, onProblem)).filter((item) => !isGone(item)),
    next: elements.length && !(behind >= count) ? text("last") : undefined,
    count: Number.isNaN(count) ? undefined : count,
  };
}

/**
 * The id in the answer to `publish()`; "" when the server keeps it for itself.
 * @param {Element} answer
 */
export function parsePublished(answer) {
  const list = within(answer, "publish");
  return (list && child(list, "item")?.getAttribute("id")) ?? "";
}

/**
 * The server's refusal in an <iq type="error">.
 * @param {Element} stanza
 */
export function parseError(stanza) {
  const error = child(stanza, "error");
  const parts = error ? children(error) : [];
  const condition =
    parts.find((part) => part.namespaceURI === STANZAS && part.localName !== "text")?.localName ??
    "undefined-condition";
  const pubsubCondition = parts.find((part) => part.namespaceURI === ERRORS)?.localName ?? "";
  const text = (error && child(error, "text", STANZAS)?.textContent) ?? "";
  const from = stanza.getAttribute("from") ?? "the server";
  const reason = [condition, pubsubCondition && `(${pubsubCondition})`, text && `"${text}"`];
  return new PubSubError(`${from} refused: ${reason.filter(Boolean).join(" ")}`, {
    condition,
    type: error?.getAttribute("type") ?? "",
    text,
    pubsubCondition,
  });
}

// Private

/** @param {"get" | "set"} type @param {...string} content @returns {Request} */
function pubsub(type, ...content) {
  return { type, content: xml("pubsub", { xmlns: PUBSUB }, ...content) };
}

/** @param {Notification} told @param {string} stamp @returns {Notification[]} */
function last(told, stamp) {
  return told.kind === "item" ? [{ ...told, kind: "last", stamp }] : [];
}

/** @param {Element} answer @param {string} name */
function within(answer, name) {
  const outer = child(answer, "pubsub", PUBSUB);
  return outer && child(outer, name);
}

/**
 * @param {Element} part
 * @param {(problem: Error) => void} [onProblem]
 * @returns {Notification[]}
 */
function notifications(part, onProblem) {
  const node = part.getAttribute("node");
  if (!node) {
    return [];
  }
  const ended = part.localName === "subscription" && part.getAttribute("subscription") === "none";
  if (ended || part.localName === "delete" || part.localName === "purge") {
    return [{ kind: "end", node }];
  }
  if (part.localName !== "items") {
    return [];
  }
  return children(part).flatMap((element) => {
    /** @type {Notification[]} */
    const told = [];
    if (element.localName === "item") {
      const item = readItem(element, node, onProblem);
      told.push(isGone(item) ? { kind: "retract", node, id: item.id } : { kind: "item", node, item });
    } else if (element.localName === "retract") {
      told.push({ kind: "retract", node, id: element.getAttribute("id") ?? "" });
    }
    return told;
  });
}

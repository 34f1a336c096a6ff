// XEP-0060 stanzas: builds text, reads elements. Pure: no network, no page.

import { PubSubError } from "./errors.js";
import { buildEntry, isGone, readItem } from "./payloads.js";
import { child, children, xml } from "./xml.js";

const CLIENT = "jabber:client";
const ERRORS = "http://jabber.org/protocol/pubsub#errors";
const EVENT = "http://jabber.org/protocol/pubsub#event";
const PUBSUB = "http://jabber.org/protocol/pubsub";
const STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas";

/** @typedef {import("./payloads.js").Item} Item */

/**
 * The inside of an <iq>, before it gets an address and an id.
 * @typedef {{type: "get" | "set", content: string}} Request
 */

/** @typedef {{kind: "item", node: string, item: Item}} ItemNotification */

/**
 * One thing that an event message tells, in the order of the message.
 * @typedef {ItemNotification
 *   | {kind: "retract", node: string, id: string}
 *   | {kind: "delete", node: string}} Notification
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
 * Asks for the items that the node keeps (§6.5).
 * @param {string} node
 * @returns {Request}
 */
export function items(node) {
  return pubsub("get", xml("items", { node }));
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

/** An account shows that it is there; without that a subscription by bare JID stays silent. */
export function presence() {
  return xml("presence", { xmlns: CLIENT });
}

/**
 * What a <message> tells of nodes; nothing when it is no event of XEP-0060.
 * @param {Element} message
 * @param {(problem: Error) => void} [onProblem]
 * @returns {Notification[]}
 */
export function parseEvent(message, onProblem) {
  const event = message.getAttribute("type") === "error" ? undefined : child(message, "event", EVENT);
  return event ? children(event).flatMap((part) => notifications(part, onProblem)) : [];
}

/**
 * The items in the answer to `items()`.
 * @param {Element} answer
 * @param {(problem: Error) => void} [onProblem]
 * @returns {Item[]}
 */
export function parseItems(answer, onProblem) {
  const list = within(answer, "items");
  const node = list?.getAttribute("node") ?? "";
  const elements = list ? children(list, "item") : [];
  return elements.map((item) => readItem(item, node, onProblem)).filter((item) => !isGone(item));
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

/** @param {"get" | "set"} type @param {string} content @returns {Request} */
function pubsub(type, content) {
  return { type, content: xml("pubsub", { xmlns: PUBSUB }, content) };
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
  if (part.localName === "delete") {
    return [{ kind: "delete", node }];
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

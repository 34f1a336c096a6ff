// What a page has missed of a node: asks the server for no more than it takes to know.

import { report } from "./report.js";
import { items, parseItems } from "./stanzas.js";

/** @typedef {import("./stanzas.js").Item} Item */
/** @typedef {(request: import("./stanzas.js").Request) => Promise<Element>} Ask */

/**
 * Who listens: somebody who has to know of all items, not of news only; and somebody of those who
 * has not been told of them yet.
 * @typedef {{state: boolean, anew: boolean}} Audience
 */

/**
 * What was missed: what has come, or all that the node holds, in the order in which it was created
 * there.
 * @typedef {object} Missed
 * @property {Item[]} items
 * @property {boolean} whole
 * @property {string} [first]  the id of the first one that was created since the page was rendered
 */

/** How many items are asked for at once. */
const PAGE = 500;

/**
 * Finds out what was missed. The subscription must stand already: what is published from now on is
 * heard, so nothing falls between the two.
 *
 * An item that is overwritten keeps its place and its time of creation, and one that is retracted
 * leaves no trace. So where something has changed all items are asked for, except of a log.
 *
 * @param {Ask} ask
 * @param {string} node
 * @param {import("./stanzas.js").LastNotification | undefined} last  what the server has sent with
 *   the subscription
 * @param {import("./knowledge.js").Knowledge} known
 * @param {Audience} audience
 * @returns {Promise<Missed>}
 */
export async function missed(ask, node, last, known, { state, anew }) {
  const count = async () => parseItems(await ask(items(node, { max: 0 }))).count;
  if (!last) {
    // The node is empty, or does not send its last item.
    return (await count()) === 0 ? { items: [], whole: true } : fetchItems(ask, node);
  }
  // What has gone shows in the count.
  if (known.isUpToDate(last) && !anew && (!state || (await count()) === known.alive.length)) {
    return { items: [], whole: false };
  }
  const [first, found] = await Promise.all([
    firstSince(ask, node, known.since),
    known.log && known.bound && !anew ? fetchLater(ask, node, known, state) : fetchItems(ask, node),
  ]);
  return { ...found, first };
}

// Private

/** @param {Ask} ask @param {string} node @param {string | undefined} since */
async function firstSince(ask, node, since) {
  return since && parseItems(await ask(items(node, { max: 1, after: since }))).items[0]?.id;
}

/**
 * What has come to a log; all of it, if something has gone that has to be told.
 * @param {Ask} ask
 * @param {string} node
 * @param {import("./knowledge.js").Knowledge} known
 * @param {boolean} state
 * @returns {Promise<Missed>}
 */
async function fetchLater(ask, node, known, state) {
  const later = await fetchItems(ask, node, known.bound);
  const unknown = later.items.filter(({ id }) => !known.knows(id)).length;
  const complete = !state || later.count === known.alive.length + unknown;
  return complete ? { ...later, whole: false } : fetchItems(ask, node);
}

/**
 * @param {Ask} ask
 * @param {string} node
 * @param {string} [after]  only what was created since
 * @returns {Promise<Missed & {count?: number}>}
 */
async function fetchItems(ask, node, after) {
  /** @type {Map<string, Item>} */
  const found = new Map();
  /** @type {import("./stanzas.js").Page} */
  let page = { items: [], next: after };
  do {
    page = parseItems(await ask(items(node, { max: PAGE, after: page.next })), report);
    for (const item of page.items) {
      found.delete(item.id); // it was retracted and published again meanwhile, and stands here now
      found.set(item.id, item);
    }
  } while (page.next !== undefined);
  return { items: [...found.values()], whole: true, count: page.count };
}

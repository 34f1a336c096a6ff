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
 * What was missed: what has come, or all that the node holds.
 * @typedef {{items: Item[], whole: boolean}} Missed
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
  if (known.log && known.since && !anew) {
    const later = await fetchItems(ask, node, known.since);
    const unknown = later.items.filter(({ id }) => !known.knows(id)).length;
    if (!state || later.count === known.alive.length + unknown) {
      return { ...later, whole: false };
    }
  }
  return fetchItems(ask, node);
}

// Private

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

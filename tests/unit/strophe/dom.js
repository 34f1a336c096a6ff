// XML for tests without a browser: the parser comes from the client's own development packages.

import { createRequire } from "node:module";

const require = createRequire(new URL("../../../media/strophe/package.json", import.meta.url));
const { DOMImplementation, DOMParser, XMLSerializer } = require("@xmldom/xmldom");

Object.assign(globalThis, { XMLSerializer });

/** What of a page's globals has to do with documents. */
export const documents = { document: { implementation: new DOMImplementation() }, DOMParser };

/**
 * The element that a text of XML is.
 * @param {string} text
 */
export function element(text) {
  return new DOMParser().parseFromString(text, "text/xml").documentElement;
}

/**
 * A document with this configuration, or none. What else bears its id does not count: a site may let
 * users write HTML, but no scripts.
 * @param {string} [text]
 */
export function pageWithConfig(text) {
  const found = text === undefined ? null : { textContent: text };
  return { querySelector: (selector) => (selector === "script#pubsub-config" ? found : null) };
}

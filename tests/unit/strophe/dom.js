// XML for tests without a browser: the parser comes from the client's own development packages.

import { createRequire } from "node:module";

const require = createRequire(new URL("../../../media/strophe/package.json", import.meta.url));
const { DOMParser, XMLSerializer } = require("@xmldom/xmldom");

Object.assign(globalThis, { XMLSerializer });

/**
 * The element that a text of XML is.
 * @param {string} text
 */
export function element(text) {
  return new DOMParser().parseFromString(text, "text/xml").documentElement;
}

/**
 * A document that has one element with this id and text, or none.
 * @param {string} [text]
 */
export function pageWithConfig(text) {
  const found = text === undefined ? null : { textContent: text };
  return { getElementById: (id) => (id === "pubsub-config" ? found : null) };
}

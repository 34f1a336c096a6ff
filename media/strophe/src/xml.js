// XML as text and as elements. Pure; knows nothing of XMPP.

/**
 * A document of no window, under the page's address as those of a DOMParser are.
 * @type {Document | undefined}
 */
let inert;

/**
 * An element as text, its attributes escaped. What is inside is XML already: made by this
 * function, by `escapeXml` or by a serializer.
 *
 * @param {string} name
 * @param {Record<string, string | undefined>} attributes  undefined ones are left out
 * @param {...string} inner
 */
export function xml(name, attributes, ...inner) {
  const attrs = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}="${escapeXml(String(value))}"`)
    .join("");
  return inner.length ? `<${name}${attrs}>${inner.join("")}</${name}>` : `<${name}${attrs}/>`;
}

/**
 * Text as it stands in XML.
 * @param {string} text
 * @throws {RangeError} when XML 1.0 cannot carry a character: it would end the stream
 */
export function escapeXml(text) {
  const bad = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/u.exec(text);
  if (bad) {
    const code = bad[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
    throw new RangeError(`XML cannot carry the character U+${code} at position ${bad.index}`);
  }
  // Line breaks and tabs, too: in attributes a parser reads bare ones as blanks.
  return text.replace(/[&<>"'\t\n\r]/g, (char) => `&#${char.charCodeAt(0)};`);
}

/**
 * The child elements, in order; of one name and namespace if these are given.
 * @param {Element} element
 * @param {string} [name]
 * @param {string} [namespace]
 * @returns {Element[]}
 */
export function children(element, name, namespace) {
  const found = [];
  for (let node = element.firstChild; node; node = node.nextSibling) {
    if (isCalled(node, name, namespace)) {
      found.push(node);
    }
  }
  return found;
}

/**
 * The first of `children()`.
 * @param {Element} element
 * @param {string} [name]
 * @param {string} [namespace]
 * @returns {Element | undefined}
 */
export function child(element, name, namespace) {
  for (let node = element.firstChild; node; node = node.nextSibling) {
    if (isCalled(node, name, namespace)) {
      return node;
    }
  }
  return undefined;
}

/**
 * The element that a text of XML is.
 * @param {string} text
 * @throws {TypeError} when it is none
 */
export function parseXml(text) {
  const root = new DOMParser().parseFromString(text, "text/xml").documentElement;
  if (root.localName === "parsererror" || root.getElementsByTagName("parsererror").length) {
    throw new TypeError(`Not XML: ${text.slice(0, 200)}`);
  }
  return root;
}

/**
 * An element with what a text of XML holds in it: in a third of the time of a DOMParser, which makes a
 * document each time. No script in it ever runs; all else is as harmless as the page leaves it.
 * @param {string} text
 * @returns {Element | undefined} nothing where it is no XML, or the browser knows it only in documents
 */
export function parsed(text) {
  inert ??= new DOMParser().parseFromString("<wrapper/>", "text/xml");
  const holder = inert.createElementNS(null, "wrapper");
  try {
    holder.innerHTML = text;
  } catch {
    return undefined;
  }
  return holder.firstChild ? holder : undefined;
}

// Private

/**
 * @param {ChildNode} node
 * @param {string} [name]
 * @param {string} [namespace]
 * @returns {node is Element}
 */
function isCalled(node, name, namespace) {
  return (
    node.nodeType === 1 &&
    (name === undefined || /** @type {Element} */ (node).localName === name) &&
    (namespace === undefined || /** @type {Element} */ (node).namespaceURI === namespace)
  );
}

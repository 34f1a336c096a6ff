// Strophe's helpers: those that are used of them, as short as today's browsers let them be.

let generator;

export function xmlGenerator() {
  generator ??= document.implementation.createDocument("jabber:client", "strophe", null);
  return generator;
}

export function xmlElement(name, attributes) {
  const element = xmlGenerator().createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined) {
      element.setAttribute(key, value);
    }
  }
  return element;
}

export const xmlHtmlNode = (text) => new DOMParser().parseFromString(text, "text/xml");

/** Chromium puts it into the document, in this namespace; Firefox makes it the document. */
export function getParserError({ documentElement: root }) {
  const inside = root.getElementsByTagNameNS("http://www.w3.org/1999/xhtml", "parsererror");
  return [root, ...inside].find(({ nodeName }) => nodeName === "parsererror")?.textContent;
}

export function toElement(text) {
  const parsed = xmlHtmlNode(text);
  if (getParserError(parsed)) {
    throw new Error(`Not XML: ${text}`);
  }
  return parsed.documentElement;
}

const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;" };

export const xmlescape = (text) => text.replace(/[&<>'"]/g, (char) => ENTITIES[char]);

/** Of the children that are elements; Strophe itself names none. */
export function forEachChild(element, name, callback) {
  [...element.childNodes].filter((node) => node.nodeType === 1).forEach((child) => callback(child));
}

export const isTagEqual = (element, name) => element.tagName === name;

export const getNamespace = (element) => element.getAttribute("xmlns") || element.namespaceURI;

export const getText = (element) => element && element.textContent;

export const handleError = (error) => console.error(error);

// Addresses: node@domain/resource.

const parts = (jid) => /^(?:([^@/]*)@)?([^/]*)(?:\/(.*))?$/s.exec(jid ?? "");

export const getNodeFromJid = (jid) => parts(jid)[1] ?? null;

export const getDomainFromJid = (jid) => parts(jid)[2];

export const getResourceFromJid = (jid) => parts(jid)[3] ?? null;

export const getBareJidFromJid = (jid) => (jid ? jid.replace(/\/.*/s, "") : null);

// What SASL computes with.

const bytes = (buffer) => new Uint8Array(buffer);
const binary = (buffer) => String.fromCharCode(...bytes(buffer));

export const addCookies = () => {};

export default {
  utf16to8: (text) => binary(new TextEncoder().encode(text)),
  xorArrayBuffers: (a, b) => bytes(a).map((byte, index) => byte ^ bytes(b)[index]).buffer,
  arrayBufToBase64: (buffer) => btoa(binary(buffer)),
  base64ToArrayBuf: (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0)).buffer,
  stringToArrayBuf: (text) => new TextEncoder().encode(text).buffer,
};

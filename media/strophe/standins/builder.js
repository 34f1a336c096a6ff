// Strophe's builder of stanzas: what its transports and its login use, on the browser's DOM.

import { NS } from "strophe.js/src/constants";
import { xmlElement, xmlescape, xmlGenerator } from "strophe.js/src/utils";

/** Builds an element from its root down; each call but `up()` and `tree()` leads to where it built. */
export default class Builder {
  #root;
  #node;

  constructor(name, attributes) {
    this.#root = this.#node = xmlElement(name, attributes);
  }

  static serialize(stanza) {
    const { nodeName, attributes: all, childNodes } = stanza instanceof Builder ? stanza.tree() : stanza;
    const attributes = [...all].map(({ name, value }) => ` ${name}="${xmlescape(value)}"`);
    const content = [...childNodes].map((node) =>
      node.nodeType === node.ELEMENT_NODE ? Builder.serialize(node) : xmlescape(node.nodeValue),
    );
    const tag = nodeName + attributes.join("");
    return content.length ? `<${tag}>${content.join("")}</${nodeName}>` : `<${tag}/>`;
  }

  tree() {
    return this.#root;
  }

  attrs(attributes) {
    for (const [name, value] of Object.entries(attributes)) {
      this.#node.setAttribute(name, value);
    }
    return this;
  }

  c(name, attributes) {
    return this.#down(xmlElement(name, attributes));
  }

  cnode(element) {
    return this.#down(xmlGenerator().importNode(element, true));
  }

  t(text) {
    this.#node.appendChild(xmlGenerator().createTextNode(text));
    return this;
  }

  up() {
    this.#node = this.#node.parentNode;
    return this;
  }

  #down(node) {
    this.#node = this.#node.appendChild(node);
    return this;
  }
}

export const $build = (name, attributes) => new Builder(name, attributes);
export const $iq = (attributes) => $build("iq", { xmlns: NS.CLIENT, ...attributes });
export const $pres = (attributes) => $build("presence", { xmlns: NS.CLIENT, ...attributes });

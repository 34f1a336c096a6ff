// What a connection has received: parsed a part at a time where it is long, told in order.

import { pace } from "./pace.js";
import { isolated } from "./report.js";
import { parsed } from "./xml.js";

/** From how many characters on a text is parsed in parts, and how long these are. */
const LONG = 32_768;
const PART = 16_384;

const TAG = /<(\/?)([^\s/>]+)(?:"[^"]*"|'[^']*'|[^"'>])*>/g;

/**
 * The texts that have come and were not handled yet. While there are none a short one is handled at
 * once; what comes behind a long one waits for it.
 */
export class Intake {
  /** @type {{text: string, handle: () => void}[]} */
  #waiting = [];
  #length = 0;
  #deliver;
  #onWaiting;

  /**
   * @param {(element: Element) => void} deliver  gets a long text, as one element or as several: its
   *   outermost element again and again, with some of its children each time
   * @param {(length: number) => void} onWaiting  so many characters wait now
   */
  constructor(deliver, onWaiting) {
    this.#deliver = deliver;
    this.#onWaiting = onWaiting;
  }

  /**
   * @param {string} text  an element
   * @param {() => void} handle  called if it is short
   */
  take(text, handle) {
    if (!this.#waiting.length && text.length < LONG) {
      handle();
      return;
    }
    if (this.#waiting.push({ text, handle }) === 1) {
      this.#work(this.#waiting);
    }
    this.#onWaiting((this.#length += text.length));
  }

  /** What waits is not wanted any more. */
  clear() {
    this.#waiting = [];
  }

  // Private

  /** @param {{text: string, handle: () => void}[]} waiting */
  async #work(waiting) {
    const step = pace();
    while (waiting === this.#waiting && waiting.length) {
      const [{ text, handle }] = waiting;
      if (text.length < LONG) {
        isolated(handle);
      } else {
        await this.#parse(text, step);
      }
      await step();
      this.#length -= text.length;
      waiting.shift();
    }
  }

  /** @param {string} text @param {() => Promise<void> | undefined} step */
  async #parse(text, step) {
    /** @type {Element | undefined} */
    let whole;
    for (const { inside, part } of parts(text)) {
      const element = /** @type {Element} */ (
        parsed(part)?.firstChild ?? new DOMParser().parseFromString(part, "text/xml").documentElement
      );
      if (whole && inside > 1) {
        graft(whole, element, inside);
      } else {
        whole && isolated(this.#deliver, whole);
        whole = element;
      }
      await step();
    }
    whole && isolated(this.#deliver, whole);
  }
}

/**
 * Cuts the text of an element into texts of elements: each has what was cut off inside of the same
 * start tags, so many as `inside` says. Between the children of the outermost element if possible.
 * @param {string} text
 * @returns {Generator<{inside: number, part: string}>}
 */
export function* parts(text) {
  /** @type {string[][]} */
  const open = [];
  let before = [...open];
  let start = 0;
  for (const { 0: tag, 1: closing, 2: name, index = 0 } of text.matchAll(TAG)) {
    if (closing) {
      open.pop();
    } else if (!tag.endsWith("/>")) {
      open.push([tag, `</${name}>`]);
    }
    const end = index + tag.length;
    if (!open.length || end - start > (open.length > 1 ? 2 * PART : PART)) {
      const [head, tail] = [before.map(([first]) => first), open.map(([, last]) => last).reverse()];
      yield { inside: before.length, part: head.join("") + text.slice(start, end) + tail.join("") };
      before = [...open];
      start = end;
    }
  }
}

/**
 * Puts back what was cut off.
 * @param {Node} whole
 * @param {Node} part
 * @param {number} inside
 */
export function graft(whole, part, inside) {
  if (inside > 1) {
    const inner = /** @type {Node} */ (part.firstChild);
    graft(/** @type {Node} */ (whole.lastChild), inner, inside - 1);
    part.removeChild(inner);
  }
  while (part.firstChild) {
    whole.appendChild(part.firstChild);
  }
}

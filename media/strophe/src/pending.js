import { PubSubError } from "./errors.js";
import { parseError } from "./stanzas.js";

/** @typedef {{to: string, settle: (answer: Element | PubSubError) => void}} Question */

/** The questions of a session that wait for their answers (RFC 6120 §8.2.3). */
export class Pending {
  /** @type {Map<string, Question>} */
  #questions = new Map();

  /**
   * @param {string} to  who is asked, and alone may answer
   * @param {string} id
   * @param {number} limit  how long the answer may take, in milliseconds
   * @returns {Promise<Element>} the result; rejects with a PubSubError
   */
  add(to, id, limit) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const details = { condition: "timeout", type: "wait" };
        question.settle(new PubSubError(`${to} did not answer in time`, details));
      }, limit);
      const question = {
        to,
        settle: (/** @type {Element | PubSubError} */ answer) => {
          clearTimeout(timer);
          this.#questions.delete(id);
          answer instanceof PubSubError ? reject(answer) : resolve(answer);
        },
      };
      this.#questions.set(id, question);
    });
  }

  /** @param {string} text  a stanza; whether it may be an answer */
  expects(text) {
    return [...this.#questions.keys()].some((id) => text.includes(id));
  }

  /** @param {Element} stanza  perhaps an answer */
  answer(stanza) {
    const question = this.#questions.get(stanza.getAttribute("id") ?? "");
    if (question && stanza.getAttribute("from") === question.to) {
      question.settle(stanza.getAttribute("type") === "error" ? parseError(stanza) : stanza);
    }
  }

  /** There will be no answers any more. */
  end() {
    for (const question of [...this.#questions.values()]) {
      question.settle(new PubSubError("The connection is closed", { condition: "disconnected" }));
    }
  }
}

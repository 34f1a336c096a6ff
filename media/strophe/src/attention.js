/**
 * Whether somebody looks at the window, and what he has missed.
 *
 * `unread` counts what arrives while the window has no focus; getting the focus resets it.
 *
 * The callback of the original demo counts by itself (`if (!pubsub.focus) pubsub.unread++`) while
 * the original README promises that the client counts. Both are right here: an item is counted
 * before its callback runs, and one further increment made inside that callback is absorbed.
 */
export class Attention {
  #unread = 0;
  #counting = false;

  /**
   * @param {Window} window
   * @param {AbortSignal} signal  ends the watching
   */
  constructor(window, signal) {
    /** @type {boolean} */
    this.focus = window.document.hasFocus();
    window.addEventListener("blur", () => (this.focus = false), { signal });
    window.addEventListener("focus", () => this.#look(), { signal });
  }

  get unread() {
    return this.#unread;
  }

  set unread(value) {
    if (this.#counting && value === this.#unread + 1) {
      this.#counting = false;
    } else {
      this.#unread = value;
    }
  }

  /**
   * Counts one item, then lets the page see it.
   * @param {() => void} show
   */
  item(show) {
    this.#counting = !this.focus;
    this.#unread += this.focus ? 0 : 1;
    try {
      show();
    } finally {
      this.#counting = false;
    }
  }

  // Private

  #look() {
    this.focus = true;
    this.#unread = 0;
  }
}

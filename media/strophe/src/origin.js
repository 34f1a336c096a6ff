// Who a page is to its site, and what everybody may see of that.

import { base64url, fingerprint } from "./digest.js";
import { report } from "./report.js";

/**
 * One page's identity: it tells the items that the page's own requests have published from others.
 *
 * The site gets `id`, a secret, with each request; everybody who is subscribed sees `item.origin`,
 * the id's public form. Were that the id itself, somebody could send it along with his own requests,
 * and the page would take his changes for its own and leave them out.
 */
export class Origin {
  /** 32 characters of A-Z a-z 0-9 _ - */
  id = base64url(crypto.getRandomValues(new Uint8Array(24)));
  /** @type {string | undefined} */
  #public;
  #warned = false;

  constructor() {
    /**
     * Settled when `made()` can tell; never rejects.
     * @readonly
     */
    this.ready = this.#publish().catch(report);
  }

  /**
   * Whether a request of this page has published the item; false where that cannot be known.
   * @param {{origin?: string}} item
   */
  made({ origin }) {
    return origin !== undefined && origin === this.#public;
  }

  /** Somebody relies on `made()`: the console says, once, if it cannot tell. */
  needed() {
    if (!crypto.subtle && !this.#warned) {
      this.#warned = true;
      console.warn(
        "excludeSelf has no effect: a page's own items are recognised by crypto.subtle, which " +
          "browsers give to pages on https and localhost only",
      );
    }
  }

  // Private

  async #publish() {
    if (crypto.subtle) {
      this.#public = await fingerprint(this.id);
    }
  }
}

// The page's requests to its site, which say from which page they come.

const HEADER = "X-PubSub-Client";

/**
 * Adds one page's id to requests: to those that are sent with it, and to all of htmx and jQuery.
 *
 * The id is a secret, so it goes nowhere but to the origin of the page.
 */
export class Requests {
  #id;
  #end;

  /**
   * @param {string} id
   * @param {AbortSignal} end  nothing is marked any more
   */
  constructor(id, end) {
    this.#id = id;
    this.#end = end;
  }

  /** What a request bears. */
  get headers() {
    return { [HEADER]: this.#id };
  }

  /**
   * The browser's fetch(), with the header. A redirect to another origin is then an error: the
   * header would go with it.
   *
   * @param {RequestInfo | URL} input
   * @param {RequestInit} [init]
   * @returns {Promise<Response>}
   */
  async fetch(input, init) {
    const request = new Request(input, init);
    if (!isSameOrigin(request.url)) {
      return window.fetch(request);
    }
    const { referrer, referrerPolicy } = request; // which any other option would reset
    const marked = new Request(request, { mode: "same-origin", referrer, referrerPolicy });
    marked.headers.set(HEADER, this.#id);
    return window.fetch(marked);
  }

  /**
   * Lets htmx, and jQuery if it is there already, send the header by themselves.
   * @returns {() => void} undoes it
   */
  mark() {
    const marking = new AbortController();
    const { signal } = marking;
    const undo = () => marking.abort();
    if (!this.#end.aborted) {
      this.#end.addEventListener("abort", undo, { signal });
      this.#markHtmx(signal);
      this.#markJQuery(signal);
    }
    return undo;
  }

  // Private

  /** @param {AbortSignal} signal */
  #markHtmx(signal) {
    const onRequest = (/** @type {any} */ { detail }) => {
      if (isSameOrigin(detail.path)) {
        detail.headers[HEADER] = this.#id;
      }
    };
    document.addEventListener("htmx:configRequest", onRequest, { signal });
  }

  /** @param {AbortSignal} signal */
  #markJQuery(signal) {
    const all = /** @type {any} */ (window).jQuery?.(document);
    const onSend = (/** @type {any} */ _event, /** @type {any} */ request, /** @type {any} */ { url }) => {
      if (isSameOrigin(url)) {
        request.setRequestHeader(HEADER, this.#id);
      }
    };
    all?.on("ajaxSend", onSend);
    signal.addEventListener("abort", () => all?.off("ajaxSend", onSend));
  }
}

// Private

/**
 * Whether a request to an address stays at the page's origin; not where the address is none.
 * @param {string} address
 */
function isSameOrigin(address) {
  try {
    const url = new URL(address, document.baseURI);
    return /^https?:$/.test(url.protocol) && url.origin === window.origin;
  } catch {
    return false;
  }
}

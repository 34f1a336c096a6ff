import { isWebSocket } from "./config.js";

/** Where the choice is kept for as long as the tab lives. */
const KEY = "pubsub-transport";

/**
 * Which transport to try: WebSocket first, BOSH where something on the way breaks WebSocket.
 *
 * A server that is down breaks both, and is no reason to change. So BOSH is chosen only while the
 * server can be reached; and where WebSocket has worked before, only when it fails twice: the server
 * may have come up between the two.
 */
export class Transports {
  #urls;
  #storage;
  #current;
  #suspected = false;

  /**
   * @param {URL[]} urls  the preferred one first
   * @param {() => Pick<Storage, "getItem" | "setItem">} storage  may throw: a browser may keep nothing
   */
  constructor(urls, storage) {
    this.#urls = urls;
    this.#storage = storage;
    this.#current = urls.find((url) => kind(url) === this.#remembered) ?? urls[0];
  }

  /** The one to try next. */
  get url() {
    return this.#current;
  }

  /** There is a session over the current one. */
  worked() {
    this.#suspected = false;
    try {
      this.#storage().setItem(KEY, kind(this.#current));
    } catch {
      // It is found out anew on each page.
    }
  }

  /**
   * There was no session to be had over the current one.
   * @param {() => Promise<boolean>} probe  whether the server can be reached at all
   * @returns {Promise<boolean>} whether there is something else to try at once
   */
  async failed(probe) {
    const other = this.#urls.find((url) => url !== this.#current);
    if (!other) {
      return false;
    }
    if (!isWebSocket(this.#current)) {
      this.#current = other;
      return false;
    }
    if (!(await probe())) {
      this.#suspected = false;
      return false;
    }
    if (this.#remembered === "websocket" && !this.#suspected) {
      this.#suspected = true;
    } else {
      this.#suspected = false;
      this.#current = other;
    }
    return true;
  }

  // Private

  get #remembered() {
    try {
      return this.#storage().getItem(KEY);
    } catch {
      return null;
    }
  }
}

/**
 * Whether BOSH answers: its server says something to whoever asks.
 * @param {URL[]} urls
 */
export async function isReachable(urls) {
  const bosh = urls.find((url) => !isWebSocket(url));
  try {
    const how = { cache: /** @type {const} */ ("no-store"), signal: AbortSignal.timeout(5_000) };
    return bosh !== undefined && (await fetch(bosh, how)).ok;
  } catch {
    return false;
  }
}

// Private

/** @param {URL} url */
function kind(url) {
  return isWebSocket(url) ? "websocket" : "bosh";
}

// What the client asks of the site itself, where Django knows its user by the session's cookie.

import { PubSubError } from "./errors.js";

/** How long an answer may take, in milliseconds. */
const LIMIT = 15_000;
/** How many nodes are asked about at once. */
const PARALLEL = 6;

/**
 * Gives one user what lets him in: a password for each login, and leave to read private nodes.
 *
 * A page stays his for whom it was made: if somebody else has signed in meanwhile, it gets nothing.
 */
export class Site {
  #url;
  #jid;
  /** @type {Promise<any> | undefined} the last answer, with what the next request has to bear */
  #known;
  #busy = 0;
  /** @type {(() => void)[]} */
  #waiting = [];

  /**
   * @param {string} url  of the credentials
   * @param {string} [jid]  for whom the page was made; if it does not say so, whoever is signed in first
   */
  constructor(url, jid) {
    this.#url = url;
    this.#jid = jid;
  }

  /**
   * What to log in with.
   * @param {number} [refused]  how often it was refused in a row
   * @returns {Promise<{jid: string, password: string}>} rejects with a PubSubError: one of type
   *   "auth" if there is nobody to be let in
   */
  async credentials(refused) {
    const url = this.#url + (refused ? `${this.#url.includes("?") ? "&" : "?"}attempt=${refused}` : "");
    this.#known = this.#ask(url);
    try {
      const { jid, password } = await this.#known;
      return { jid, password };
    } catch (error) {
      this.#known = undefined;
      throw error;
    }
  }

  /**
   * Whether the user may read a private node. If so, the server knows it by now.
   * @param {string} node
   * @returns {Promise<boolean>} rejects with a PubSubError
   */
  async authorize(node) {
    while (this.#busy >= PARALLEL) {
      await new Promise((go) => this.#waiting.push(() => go(undefined)));
    }
    this.#busy++;
    try {
      return await this.#authorize(node);
    } finally {
      this.#busy--;
      this.#waiting.shift()?.();
    }
  }

  // Private

  /** @param {string} url */
  async #ask(url) {
    const { ok, status, body } = await ask(url);
    if (!ok || !body) {
      throw problem(url, status, body);
    }
    this.#jid ||= body.jid;
    if (this.#jid !== body.jid) {
      throw problem(url, 401, { error: `this page was made for ${this.#jid}, not for ${body.jid}` });
    }
    return body;
  }

  /** @param {string} node */
  async #authorize(node) {
    const known = this.#known;
    let answer = known && (await this.#post(node, known));
    // Django refuses an old CSRF token with a page, not with JSON.
    if (!answer || answer.status === 401 || (answer.status === 403 && !answer.body)) {
      if (!this.#known || this.#known === known) {
        this.credentials().catch(() => {}); // once for all who wait: they hear of it below
      }
      answer = await this.#post(node, this.#known);
    }
    const { ok, status, body } = answer;
    const isRefusal = status >= 400 && status < 500 && status !== 401 && status !== 429;
    if (!ok && !isRefusal) {
      throw problem(node, status, body);
    }
    return ok;
  }

  /** @param {string} node @param {Promise<any> | undefined} known */
  async #post(node, known) {
    const { authorizeUrl, csrfHeader = "X-CSRFToken", csrfToken } = await known;
    const headers = { "Content-Type": "application/json", [csrfHeader]: csrfToken };
    return ask(authorizeUrl, { method: "POST", headers, body: JSON.stringify({ node }) });
  }
}

// Private

/**
 * @param {string} url
 * @param {{method?: string, headers?: Record<string, string>, body?: string}} [init]
 * @returns {Promise<{ok: boolean, status: number, body?: any}>} with a body if that is JSON
 */
async function ask(url, { headers, ...init } = {}) {
  try {
    const answer = await fetch(url, {
      ...init,
      headers: { Accept: "application/json", ...headers },
      mode: "same-origin",
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(LIMIT),
    });
    const { ok, status } = answer;
    const isJson = answer.headers.get("Content-Type")?.includes("json");
    return { ok, status, body: isJson ? await answer.json() : undefined };
  } catch (error) {
    return { ok: false, status: 0, body: { error } };
  }
}

/** @param {string} what @param {number} status @param {any} [body] */
function problem(what, status, body) {
  const isFinal = status === 401 || status === 403;
  const condition = isFinal ? "not-authorized" : "connection-failed";
  const details = { condition, type: isFinal ? "auth" : "wait" };
  return new PubSubError(`${what}: ${body?.error ?? `HTTP status ${status}`}`, details);
}

// Who logs in, and under which address.

import { required } from "./config.js";

/** @typedef {import("./config.js").Config} Config */

/**
 * @typedef {object} LoginOptions
 * @property {string} [nick]  a guest's name, for whoever reads the server's logs
 * @property {string} [username]  an account's name, without its domain
 * @property {string} [password]
 * @property {string} [jid]  with a password: an account's whole address; with sid and rid: a BOSH
 *   session that the server has opened
 * @property {string} [sid]
 * @property {string | number} [rid]  the next request id of that session
 */

/** How long credentials() may take, in milliseconds. */
const ASK_LIMIT = 15_000;

/**
 * One way to log in.
 *
 * @typedef {object} Credentials
 * @property {"guest" | "account" | "attached"} kind
 * @property {string} identity  a text that is another one for who must not share a connection with
 *   others of this browser; "" for who shares with nobody
 * @property {boolean} isGuest  somebody of whom the site knows nothing
 * @property {(shared: boolean) => Login} login  of a connection that is shared with other tabs, or of
 *   one of its own: two connections under one address end each other
 * @property {(jid: string) => void} adopt  takes the address that the shared connection has
 */

/**
 * What one attempt needs: a password, or the ids of a session to continue.
 * @typedef {{jid: string, password: string} | {jid: string, sid: string, rid: number}} Login
 */

/**
 * The way to log in that the options ask for, in the order of the original client.
 * @param {LoginOptions} options
 * @param {Config} config
 * @returns {Credentials}
 */
export function credentials(options, config) {
  if (options.jid && !options.password) {
    return attached(options, config);
  }
  return options.jid || options.username ? account(options, config) : guest(options, config);
}

/**
 * Where each login gets its credentials from.
 *
 * @typedef {object} Source
 * @property {Credentials} [fixed]  the same each time: what was refused will be refused again
 * @property {(refused?: number) => Promise<Credentials>} next  told how often it was refused in a row
 */

/** @typedef {(refused: number) => Promise<LoginOptions> | LoginOptions} Ask */

/**
 * @param {LoginOptions & {credentials?: Ask}} options
 * @param {Config} config
 * @param {Ask} [site]  asked where the options do not say who logs in
 * @returns {Source}
 */
export function credentialSource(options, config, site) {
  const isOpen = (options.nick ?? options.username ?? options.jid) === undefined;
  const ask = options.credentials ?? (isOpen ? site : undefined);
  if (ask === undefined) {
    const fixed = credentials(options, config);
    return { fixed, next: async () => fixed };
  }
  if (typeof ask !== "function") {
    throw new TypeError(`credentials must be a function that returns them, not ${String(ask)}`);
  }
  /** @type {Credentials | undefined} */
  let visitor;
  return {
    async next(refused = 0) {
      const found = credentials((await inTime(() => ask(refused))) ?? {}, config);
      visitor = found.kind === "guest" ? (visitor ?? found) : undefined; // he keeps his address
      return visitor ?? found;
    },
  };
}

/**
 * The full address of a guest who was never seen before. A page keeps it for all its sessions: a
 * subscription that is left from a server that has crashed is then renewed instead of left behind,
 * and an old session that the server has not missed yet gives way to the new one.
 *
 * @param {string} nick
 * @param {string} domain
 * @param {string} [unique]
 */
export function guestJid(nick, domain, unique = randomHex(8)) {
  const name = nick.normalize("NFKC").toLowerCase().replace(UNSAFE, " ").trim();
  const short = [...name].slice(0, 24).join("").trim() || "guest";
  return `${escapeNode(short)}-${unique}@${domain}/page`;
}

/**
 * XEP-0106: a name as the local part of an address.
 * @param {string} name
 */
export function escapeNode(name) {
  return name
    .replace(/\\(?=20|22|26|27|2f|3a|3c|3e|40|5c)/g, "\\5c")
    .replace(/[ "&'/:<>@]/g, (char) => `\\${char.charCodeAt(0).toString(16)}`);
}

// Private

/**
 * A server refuses an address with letters newer than its tables, which may be those of Unicode
 * 3.2, and a guest's name is not worth that: Latin, Greek, Cyrillic, kana, Han and Hangul stay.
 */
const UNSAFE =
  /[^ -~\u00df-\u00f6\u00f8-\u017e\u03ac-\u03ce\u0430-\u045f\u3041-\u3094\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3]+/g;

/** @param {LoginOptions} options @param {Config} config @returns {Credentials} */
function guest({ nick = "" }, config) {
  const domain = required(config, "guestDomain");
  const own = guestJid(String(nick), domain);
  let common = guestJid(String(nick), domain);
  return {
    kind: "guest",
    identity: domain,
    isGuest: true,
    login: (shared) => ({ jid: shared ? common : own, password: randomHex(16) }),
    adopt: (jid) => (common = jid),
  };
}

/** @param {LoginOptions} options @param {Config} config @returns {Credentials} */
function account({ username = "", password, jid: full }, config) {
  const jid = full
    ? full.replace(/\/.*$/s, "")
    : `${escapeNode(String(username))}@${required(config, "userDomain")}`;
  if (typeof password !== "string" || !password) {
    throw new Error(`PubSubClient needs a password for "${full || username}"`);
  }
  return {
    kind: "account",
    identity: jid,
    isGuest: false,
    login: () => ({ jid, password }),
    adopt() {},
  };
}

/** @param {LoginOptions} options @param {Config} config @returns {Credentials} */
function attached({ jid = "", sid, rid }, config) {
  const number = Number(rid);
  if (!sid || !Number.isSafeInteger(number) || number <= 0) {
    throw new Error(`For "${jid}" pass a password, or sid and rid (got sid "${sid}", rid "${rid}")`);
  }
  const domain = jid.replace(/\/.*$/s, "").replace(/^.*@/s, "");
  return {
    kind: "attached",
    identity: "",
    isGuest: domain !== config.userDomain,
    login: () => ({ jid, sid, rid: number }),
    adopt() {},
  };
}

/**
 * @template T
 * @param {() => T} ask
 */
function inTime(ask) {
  const tooLate = () =>
    new Promise((_, reject) => setTimeout(reject, ASK_LIMIT, new Error("credentials() hangs")));
  return Promise.race([ask(), tooLate()]);
}

/** @param {number} bytes */
function randomHex(bytes) {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(values, (value) => value.toString(16).padStart(2, "0")).join("");
}

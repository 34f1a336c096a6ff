// Where the servers are: read from the page, overridden by the options of the constructor.

const NAMES = /** @type {const} */ ([
  "service",
  "url",
  "boshUrl",
  "websocketUrl",
  "guestDomain",
  "userDomain",
  "workerUrl",
  "credentialsUrl",
  "user",
  "since",
]);

/**
 * What the page says and the constructor may override; an empty value counts as missing.
 *
 * @typedef {object} Config
 * @property {string} service  the address of the pubsub service, as "pubsub.example.org"
 * @property {string} [url]  the one address to connect to, WebSocket or BOSH by its scheme
 * @property {string} [boshUrl]
 * @property {string} [websocketUrl]  preferred to boshUrl when both are there and it works
 * @property {string} [guestDomain]  where visitors without an account log in
 * @property {string} [userDomain]  where the site's users log in
 * @property {string} [workerUrl]  of the script by which tabs share a connection
 * @property {string} [credentialsUrl]  where the site says with what its user logs in
 * @property {string} [user]  the JID of the user for whom the page was made
 * @property {string} [since]  when the page was rendered, as ISO 8601
 * @property {Record<string, {max?: number | string, log?: boolean}>} [nodes]  what is known of
 *   nodes: how many items they keep, and whether no item is ever overwritten
 */

/**
 * The configuration that `{% pubsub_client %}` put on the page.
 * @param {Document} document
 * @returns {Partial<Config>} empty when there is none
 */
export function pageConfig(document) {
  const text = document.querySelector("script#pubsub-config")?.textContent;
  if (!text) {
    return {};
  }
  let config;
  try {
    config = JSON.parse(text);
  } catch (error) {
    throw new Error(`#pubsub-config of this page is not JSON: ${quote(text)}`, { cause: error });
  }
  if (typeof config !== "object" || config === null || Array.isArray(config)) {
    throw new Error(`#pubsub-config of this page must be a JSON object, not ${quote(text)}`);
  }
  return config;
}

/**
 * The page's configuration with the constructor's options on top, checked.
 * @param {Partial<Config>} page
 * @param {Partial<Config>} options
 * @returns {Config}
 */
export function resolveConfig(page, options) {
  /** @type {Partial<Config>} */
  const config = {};
  for (const name of NAMES) {
    const value = options[name] || page[name];
    if (value && typeof value !== "string") {
      throw new TypeError(`${name} must be a string, not ${quote(value)}`);
    }
    if (value) {
      config[name] = value;
    }
  }
  // Addresses come back from the server in lower case, and are compared.
  const service = required(config, "service").toLowerCase();
  return { ...config, service, nodes: options.nodes ?? page.nodes ?? {} };
}

/**
 * One value that this way to log in cannot do without.
 * @param {Partial<Config>} config
 * @param {typeof NAMES[number]} name
 * @returns {string}
 */
export function required(config, name) {
  const value = config[name];
  if (!value) {
    throw new Error(
      `PubSubClient needs "${name}": put {% pubsub_client %} on the page, or pass the option ` +
        `(configured: ${quote(config)})`,
    );
  }
  return value;
}

/**
 * The addresses to connect to, absolute, the preferred one first; the scheme of each says whether it
 * is WebSocket or BOSH.
 *
 * @param {Config} config
 * @param {string} base  the page's address
 * @param {{boshOnly?: boolean}} [how]  a BOSH session cannot be continued over WebSocket
 * @returns {URL[]} one or two
 */
export function transportUrls(config, base, { boshOnly = false } = {}) {
  if (config.url) {
    const url = absolute("url", config.url, base);
    if (boshOnly && isWebSocket(url)) {
      throw new Error(`Attaching to a session needs a BOSH address, not ${quote(config.url)}`);
    }
    return [url];
  }
  const urls = [];
  if (config.websocketUrl && !boshOnly) {
    const url = absolute("websocketUrl", config.websocketUrl, base);
    url.protocol = url.protocol.replace(/^http/, "ws");
    urls.push(url);
  }
  if (config.boshUrl || boshOnly) {
    const url = absolute("boshUrl", required(config, "boshUrl"), base);
    if (isWebSocket(url)) {
      throw new Error(`boshUrl must be an http(s) address, not ${quote(config.boshUrl)}`);
    }
    urls.push(url);
  }
  if (!urls.length) {
    throw new Error(`PubSubClient needs "websocketUrl" or "boshUrl" (configured: ${quote(config)})`);
  }
  return urls;
}

/** @param {URL} url */
export function isWebSocket(url) {
  return url.protocol === "ws:" || url.protocol === "wss:";
}

/**
 * Whether a secret may travel there: over TLS, or without leaving the machine.
 * @param {URL} url
 */
export function isConfidential(url) {
  return (
    url.protocol === "https:" ||
    url.protocol === "wss:" ||
    /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname)
  );
}

// Private

/**
 * @param {string} name
 * @param {string} value
 * @param {string} base
 */
function absolute(name, value, base) {
  let url;
  try {
    url = new URL(value, base);
  } catch (error) {
    throw new Error(`${name} is not an address: ${quote(value)}`, { cause: error });
  }
  if (!/^(https?|wss?):$/.test(url.protocol)) {
    throw new Error(`${name} must be an http(s) or ws(s) address, not ${quote(value)}`);
  }
  url.hash = ""; // no WebSocket takes it
  return url;
}

/** @param {unknown} value */
function quote(value) {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

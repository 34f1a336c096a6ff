import { Strophe } from "strophe.js";

import { Intake } from "./intake.js";
import { parsed } from "./xml.js";

const GUEST_MECHANISMS = [Strophe.SASLPlain];
const ACCOUNT_MECHANISMS = [
  Strophe.SASLSHA512,
  Strophe.SASLSHA384,
  Strophe.SASLSHA256,
  Strophe.SASLSHA1,
  Strophe.SASLPlain,
];

/** What is neither about the stream nor its end, which are Strophe's affair. */
const STANZA = /^<(message|iq)[\s>]/;

/** The condition of a server that offers nothing acceptable. */
export const NO_MECHANISM = Strophe.ErrorCondition.NO_AUTH_MECH;

/**
 * A Strophe connection that logs in by SASL or not at all, and that holds nobody up with what comes.
 *
 * Accounts by the best SCRAM that is offered, else by PLAIN. Guests by PLAIN, never ANONYMOUS:
 * ejabberd would keep an anonymous visitor's subscriptions for ever. Nobody by what was used
 * before SASL, to which Strophe itself would fall back.
 */
export class SaslConnection extends Strophe.Connection {
  /**
   * So many characters have come and wait.
   * @type {(length: number) => void}
   */
  onwaiting = () => {};
  /**
   * A WebSocket has received something; returns whether it is for somebody else.
   * @type {(text: string) => boolean}
   */
  onarrival = () => false;
  #intake = new Intake(
    // A transport takes it for an element, or for a response.
    (element) => super._dataRecv(Object.assign(element, { getResponse: () => element })),
    (length) => this.onwaiting(length),
  );

  /**
   * @param {string} url
   * @param {{guest: boolean}} who
   */
  constructor(url, { guest }) {
    super(url, { mechanisms: guest ? GUEST_MECHANISMS : ACCOUNT_MECHANISMS });
    // What RFC 3921 asked for after the login, and RFC 6121 no more: one round trip less.
    Object.defineProperty(this, "do_session", { get: () => false, set() {} });
    this.listen(/** @type {any} */ (this._proto));
  }

  /**
   * Takes what a WebSocket receives.
   * @param {StropheWebsocket} socket
   */
  listen(socket) {
    const handle = socket._onMessage;
    socket._onMessage = (message) => {
      const text = message.data;
      if (!this.onarrival(text)) {
        this.#intake.take(socket._streamWrap(text), () => {
          const stanzas = STANZA.test(text) && parsed(text);
          stanzas ? super._dataRecv(stanzas, text) : handle.call(socket, message);
        });
      }
    };
  }

  /** What has come and waits is not wanted any more. */
  forget() {
    this.#intake.clear();
  }

  /**
   * Takes what BOSH receives.
   * @override
   * @param {any} response
   * @param {string} [raw]
   */
  _dataRecv(response, raw) {
    const text = response.xhr?.responseText ?? "";
    const handle = () => super._dataRecv(response, raw);
    /^<body/.test(text) ? this.#intake.take(text, handle) : handle();
  }

  /**
   * @override
   * @param {InstanceType<typeof Strophe.SASLMechanism>[]} offered
   */
  authenticate(offered) {
    const usable = offered.filter((mechanism) => mechanism.test(this));
    if (usable.length) {
      super.authenticate(usable);
    } else {
      this.connect_callback?.(Strophe.Status.CONNFAIL, NO_MECHANISM);
    }
  }
}

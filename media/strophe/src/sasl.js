import { Strophe } from "strophe.js";

const GUEST_MECHANISMS = [Strophe.SASLPlain];
const ACCOUNT_MECHANISMS = [
  Strophe.SASLSHA512,
  Strophe.SASLSHA384,
  Strophe.SASLSHA256,
  Strophe.SASLSHA1,
  Strophe.SASLPlain,
];

/** The condition of a server that offers nothing acceptable. */
export const NO_MECHANISM = Strophe.ErrorCondition.NO_AUTH_MECH;

/**
 * A Strophe connection that logs in by SASL or not at all.
 *
 * Accounts by the best SCRAM that is offered, else by PLAIN. Guests by PLAIN, never ANONYMOUS:
 * ejabberd would keep an anonymous visitor's subscriptions for ever. Nobody by what was used
 * before SASL, to which Strophe itself would fall back.
 */
export class SaslConnection extends Strophe.Connection {
  /**
   * @param {string} url
   * @param {{guest: boolean}} who
   */
  constructor(url, { guest }) {
    super(url, { mechanisms: guest ? GUEST_MECHANISMS : ACCOUNT_MECHANISMS });
    // What RFC 3921 asked for after the login, and RFC 6121 no more: one round trip less.
    Object.defineProperty(this, "do_session", { get: () => false, set() {} });
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

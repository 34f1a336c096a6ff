/**
 * What went wrong, in the server's words or in ours.
 *
 * `condition` is the XMPP condition ("forbidden", "item-not-found", …) or one of our own:
 * "timeout" (no answer), "disconnected" (the connection went first), "unusable-answer",
 * "connection-failed" (the site does not answer as it should).
 */
export class PubSubError extends Error {
  /**
   * @param {string} message
   * @param {{condition: string, type?: string, text?: string, pubsubCondition?: string}} details
   */
  constructor(message, { condition, type = "", text = "", pubsubCondition = "" }) {
    super(message);
    this.name = "PubSubError";
    this.condition = condition;
    /** "auth", "cancel", "modify", "wait" or "": XMPP's advice on what to do. */
    this.type = type;
    this.text = text;
    /** The condition of XEP-0060, as "closed-node" or "payload-too-big"; "" when there is none. */
    this.pubsubCondition = pubsubCondition;
  }
}

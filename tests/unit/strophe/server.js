// One node as ejabberd keeps it, in memory: what a Feed asks is answered as ejabberd answers it.

import { PubSubError } from "../../../media/strophe/src/errors.js";
import { parseEvent } from "../../../media/strophe/src/stanzas.js";
import { element } from "./dom.js";

const PUBSUB = "http://jabber.org/protocol/pubsub";
const RSM = "http://jabber.org/protocol/rsm";

export const refusal = (condition, type = "cancel", pubsubCondition = "") =>
  new PubSubError(condition, { condition, type, pubsubCondition });

/**
 * A node, and a connection to it. `publish()` and `retract()` tell the feed while it is subscribed;
 * `answers` are refusals, or functions that are run before the next answers are made.
 */
export class Server {
  state = "online";
  subscriber = "me@guests/1";
  isGuest = true;
  sendsLast = true;
  asked = [];
  answers = [];
  /** Milliseconds since 1970, by the server's clock; each publication takes one. */
  clock = Date.parse("2026-11-26T10:00:00Z");
  #items = new Map();
  #subscribed = false;
  #number = 0;
  #feed;

  feedTo(feed) {
    this.#feed = feed;
    return feed;
  }

  get ids() {
    return [...this.#items.keys()];
  }

  /** An item as text: its number is unique, its `at` the server's clock unless told otherwise. */
  publish(id, { at = this.#now(), seq = `s.${++this.#number}`, text = seq } = {}) {
    const time = this.#now();
    const marks = `${seq && ` seq="${seq}"`}${at && ` at="${at}"`}`;
    const meta = `<meta xmlns="urn:django-pubsub:1"${marks}/>`;
    const xml = `<item id="${id}"><entry xmlns="http://www.w3.org/2005/Atom">${meta}${text}</entry></item>`;
    const { created = time } = this.#items.get(id) ?? {};
    this.#items.set(id, { xml, created, modified: time });
    this.clock += 1;
    this.#tell(xml);
    return seq;
  }

  retract(id) {
    this.#items.delete(id);
    this.clock += 1;
    this.#tell(`<retract id="${id}"/>`);
  }

  /** The connection is lost; what is published from now on is not heard. */
  lose() {
    this.state = "offline";
    this.#subscribed = false;
  }

  /** A new connection. */
  comeBack() {
    this.state = "online";
    this.#feed.renew();
  }

  async hold() {}

  async release(node, ifLast) {
    await ifLast();
  }

  async request(to, { content }) {
    const request = element(content).firstChild;
    const name = request.localName;
    const max = /<max>(\d+)</.exec(content)?.[1];
    this.asked.push(max === undefined ? name : max === "0" ? "count" : name);
    this.last = { to, content };
    await null;
    const answer = this.answers.shift();
    if (answer instanceof Error) {
      throw answer;
    }
    answer?.();
    if (this.state !== "online") {
      throw refusal("disconnected");
    }
    return element(this.#answer(name, content));
  }

  // Private

  #now() {
    return new Date(this.clock).toISOString();
  }

  #tell(inside, delay = "") {
    if (this.#subscribed) {
      const event = `<event xmlns="${PUBSUB}#event"><items node="/n">${inside}</items></event>`;
      const message = element(`<message xmlns="jabber:client">${event}${delay}</message>`);
      parseEvent(message).forEach((notification) => this.#feed.receive(notification));
    }
  }

  #answer(name, content) {
    if (name === "subscribe") {
      this.#subscribed = true;
      this.#sendLast();
    } else if (name === "unsubscribe") {
      this.#subscribed = false;
    }
    const inside = name === "items" ? this.#page(content) : "";
    return `<iq xmlns="jabber:client"><pubsub xmlns="${PUBSUB}">${inside}</pubsub></iq>`;
  }

  #sendLast() {
    const [last] = [...this.#items.values()].sort((a, b) => (a.modified < b.modified ? 1 : -1));
    if (last && this.sendsLast) {
      this.#tell(last.xml, `<delay xmlns="urn:xmpp:delay" stamp="${last.modified}"/>`);
    }
  }

  #page(content) {
    const max = Number(/<max>(\d+)</.exec(content)[1]);
    const after = /<after>([^<]*)</.exec(content)?.[1] ?? "";
    const all = [...this.#items.values()].sort((a, b) => (a.created < b.created ? -1 : 1));
    const index = all.filter(({ created }) => created <= after).length;
    const page = all.slice(index, index + max);
    const bounds = page.length
      ? `<first index="${index}">${page[0].created}</first><last>${page.at(-1).created}</last>`
      : "";
    const set = `<set xmlns="${RSM}"><count>${all.length}</count>${bounds}</set>`;
    return `${set}<items node="/n">${page.map(({ xml }) => xml).join("")}</items>`;
  }
}

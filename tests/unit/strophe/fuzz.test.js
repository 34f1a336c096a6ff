// Whatever a server says is read, and whatever a page gives is one stanza or refused at the call.

import assert from "node:assert/strict";
import { test } from "node:test";

import { PubSubError } from "../../../media/strophe/src/errors.js";
import { buildEntry, isGone, readItem, readMark } from "../../../media/strophe/src/payloads.js";
import * as stanzas from "../../../media/strophe/src/stanzas.js";
import { escapeXml } from "../../../media/strophe/src/xml.js";
import { element } from "./dom.js";

const ROUNDS = 300;
const PUBSUB = "http://jabber.org/protocol/pubsub";
const NAMESPACES = [
  ...[PUBSUB, `${PUBSUB}#event`, `${PUBSUB}#errors`, "urn:ietf:params:xml:ns:xmpp-stanzas"],
  ...["http://www.w3.org/2005/Atom", "urn:django-pubsub:1", "urn:xmpp:json:0", "urn:xmpp:delay"],
  ...["http://jabber.org/protocol/rsm", "jabber:client", "urn:x", ""],
];
const NAMES = [
  ..."event items item retract purge delete subscription pubsub publish set count first last".split(" "),
  ..."error text entry meta json delay django-objects object field None natural".split(" "),
];
const ATTRIBUTES = "id node type name rel pk event at seq origin stamp subscription index".split(" ");
const TYPES = ["BooleanField", "FloatField", "IntegerField", "BigAutoField", "JSONField", "none"];
/** (xmldom reads U+2028 as the end of a line, as XML 1.1 did and no browser does.) */
const TRICKS = [
  ...["]]>", "<![CDATA[", "&lt;", "&", '"/><x a="', "'/>", "</item></items></event></message>"],
  ...["<script>alert(1)</script>", "__proto__", "constructor", "NaN", "1e999", "-0", "{", "[[[[", '"'],
  ...["\t", "\n", "\r", "\ufeff", "😀", " ", "9".repeat(400), "true", "null", "deleted"],
];
/** What XML 1.0 cannot carry. */
const NOT_XML = ["\0", "\b", "\u001f", "\ufffe", "\uffff", "\ud800", "\udc00x"];

/** Random choices that are the same each time; the seed is in the name of what fails. */
class Chance {
  constructor(seed) {
    this.state = seed;
  }

  number(below) {
    // A linear congruential generator (Numerical Recipes) is enough to choose by.
    this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.state / 2 ** 32) * below);
  }

  of(list) {
    return list[this.number(list.length)];
  }

  text(tricks = TRICKS) {
    return Array.from({ length: this.number(4) }, () => this.of(tricks)).join("");
  }

  /** An element of any shape, as text. */
  tree(depth = 4) {
    const name = this.of(NAMES);
    const chosen = new Map();
    for (let count = this.number(4); count > 0; count--) {
      const values = [this.text(), this.of(TYPES), this.of(["none", "deleted", "/n", "ManyToManyRel"])];
      chosen.set(this.of(ATTRIBUTES), this.of(values));
    }
    if (this.number(2)) {
      chosen.set("xmlns", this.of(NAMESPACES));
    }
    const attributes = Array.from(chosen, ([key, value]) => ` ${key}="${escapeXml(value)}"`).join("");
    const inner = Array.from({ length: depth && this.number(4) }, () =>
      this.number(3) ? this.tree(depth - 1) : escapeXml(this.text()),
    );
    return `<${name}${attributes}>${inner.join("")}</${name}>`;
  }
}

/** Runs a check so many times, and names the seed of the round that fails. */
function fuzz(name, check) {
  test(name, () => {
    for (let seed = 1; seed <= ROUNDS; seed++) {
      try {
        check(new Chance(seed));
      } catch (cause) {
        throw new Error(`with the seed ${seed}: ${cause.message}`, { cause });
      }
    }
  });
}

function assertItem(item) {
  assert.equal(typeof item.id, "string");
  assert.equal(typeof item.node, "string");
  for (const fact of [item.event, item.published, item.origin]) {
    assert.ok(fact === undefined || typeof fact === "string");
  }
  assert.equal(Object.getPrototypeOf(item.fields ?? {}), Object.prototype);
  assert.equal(typeof isGone(item), "boolean");
  assert.equal(typeof readMark(item).print, "string");
  JSON.stringify([item.fields, item.data]);
}

/** Hears of what could not be read; these are errors, and nothing else is. */
function problems() {
  const heard = [];
  return { heard, onProblem: (problem) => heard.push(problem) };
}

fuzz("a message of any shape tells notifications that pages know, or nothing", (chance) => {
  const { heard, onProblem } = problems();
  const inner = Array.from({ length: chance.number(4) }, () => chance.tree());
  const items = `<items node="/n">${inner.join("")}</items>`;
  const event = `<event xmlns="${PUBSUB}#event">${chance.of([items, inner.join("")])}</event>`;
  const message = element(`<message xmlns="jabber:client">${event}${chance.tree(1)}</message>`);
  for (const told of stanzas.parseEvent(message, onProblem)) {
    assert.ok(["item", "retract", "last", "end"].includes(told.kind));
    assert.ok(told.node);
    if (told.item) {
      assertItem(told.item);
    }
  }
  assert.ok(heard.every((problem) => problem instanceof Error));
});

fuzz("an answer of any shape is a page of items, an id, and an error", (chance) => {
  const { heard, onProblem } = problems();
  const inner = Array.from({ length: chance.number(4) }, () => chance.tree());
  const body = chance.of([
    `<pubsub xmlns="${PUBSUB}"><items node="/n">${inner.join("")}</items>${chance.tree(2)}</pubsub>`,
    `<pubsub xmlns="${PUBSUB}">${inner.join("")}</pubsub>`,
    `<error>${inner.join("")}</error>`,
    inner.join(""),
  ]);
  const answer = element(`<iq xmlns="jabber:client" id="1">${body}</iq>`);
  const page = stanzas.parseItems(answer, onProblem);
  page.items.forEach(assertItem);
  assert.ok(page.next === undefined || page.next !== "");
  assert.ok(page.count === undefined || typeof page.count === "number");
  assert.equal(typeof stanzas.parsePublished(answer), "string");
  const error = stanzas.parseError(answer);
  assert.ok(error instanceof PubSubError && error.condition);
  assert.ok(heard.every((problem) => problem instanceof Error));
});

fuzz("a payload of any shape is read", (chance) => {
  const { heard, onProblem } = problems();
  const objects = `<django-objects xmlns=""><object>${chance.tree()}${chance.tree()}</object></django-objects>`;
  const entry = `<entry xmlns="http://www.w3.org/2005/Atom">${chance.tree()}${objects}</entry>`;
  assertItem(readItem(element(`<item id="1">${entry}</item>`), "/n", onProblem));
  assert.ok(heard.every((problem) => problem instanceof Error));
});

fuzz("text of any kind is published exactly, or refused", (chance) => {
  const text = chance.text();
  assert.equal(element(buildEntry(text)).textContent, text);
  const data = { [text]: [text, { text }] };
  const read = readItem(element(`<item>${buildEntry(data)}</item>`), "/n");
  assert.deepEqual(read.data, data);
  const bad = chance.text() + chance.of(NOT_XML) + chance.text();
  assert.throws(() => buildEntry(bad), RangeError);
});

fuzz("names and ids of any kind are what was given, or refused", (chance) => {
  const [node, jid, id, service] = Array.from({ length: 4 }, () => chance.text() + "x");
  const requests = [
    stanzas.subscribe(node, jid),
    stanzas.unsubscribe(node, jid),
    stanzas.publish(node, "x", id),
    stanzas.items(node, { max: 5, after: id }),
  ];
  for (const request of requests) {
    const iq = element(stanzas.iq(service, id, request));
    assert.deepEqual([iq.getAttribute("to"), iq.getAttribute("id")], [service, id]);
    assert.equal(iq.childNodes.length, 1);
    assert.equal(iq.firstChild.firstChild.getAttribute("node"), node);
    const who = iq.firstChild.firstChild.getAttribute("jid");
    assert.ok(!who || who === jid);
  }
  const bad = `${node}${chance.of(NOT_XML)}`;
  assert.throws(() => stanzas.subscribe(bad, jid), RangeError);
  assert.throws(() => stanzas.publish(node, "x", bad), RangeError);
  assert.throws(() => stanzas.items(node, { max: 5, after: bad }), RangeError);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { PubSubError } from "../../../media/strophe/src/errors.js";
import {
  iq,
  items,
  parseError,
  parseEvent,
  parseItems,
  parsePublished,
  ping,
  publish,
  subscribe,
  unsubscribe,
} from "../../../media/strophe/src/stanzas.js";
import { element } from "./dom.js";

const PUBSUB = "http://jabber.org/protocol/pubsub";
const NODE = `/blog/Post "<&'`;
const sent = (request) => element(iq("pubsub.example.org", "id1", request));
const event = (inner, attrs = "") =>
  element(
    `<message xmlns="jabber:client" from="pubsub.example.org" ${attrs}>` +
      `<event xmlns="${PUBSUB}#event">${inner}</event></message>`,
  );
const answer = (inner) =>
  element(`<iq xmlns="jabber:client" type="result"><pubsub xmlns="${PUBSUB}">${inner}</pubsub></iq>`);

test("a request is addressed to the service and bears its id", () => {
  const stanza = sent(subscribe("/n", "me@x/y"));
  assert.equal(stanza.namespaceURI, "jabber:client");
  assert.equal(stanza.getAttribute("to"), "pubsub.example.org");
  assert.equal(stanza.getAttribute("id"), "id1");
  assert.equal(stanza.getAttribute("type"), "set");
});

test("subscribing and unsubscribing name node and subscriber", () => {
  for (const [build, name] of [[subscribe, "subscribe"], [unsubscribe, "unsubscribe"]]) {
    const inner = sent(build(NODE, "me@x/y")).firstChild.firstChild;
    assert.equal(inner.localName, name);
    assert.equal(inner.namespaceURI, PUBSUB);
    assert.equal(inner.getAttribute("node"), NODE);
    assert.equal(inner.getAttribute("jid"), "me@x/y");
  }
});

test("publishing sends one item, with an id only if one is given", () => {
  const inner = sent(publish(NODE, "Hello")).firstChild.firstChild;
  assert.equal(inner.getAttribute("node"), NODE);
  assert.equal(inner.childNodes.length, 1);
  assert.equal(inner.firstChild.hasAttribute("id"), false);
  assert.equal(inner.textContent, "Hello");
  assert.match(publish("/n", "x", "42").content, /<item id="42">/);
});

test("items are asked for, not set, and so many at a time", () => {
  const stanza = sent(items(NODE, { max: 500 }));
  assert.equal(stanza.getAttribute("type"), "get");
  const [list, set] = Array.from(stanza.firstChild.childNodes);
  assert.equal(list.getAttribute("node"), NODE);
  assert.equal(set.namespaceURI, "http://jabber.org/protocol/rsm");
  assert.equal(set.firstChild.textContent, "500");
  assert.equal(set.childNodes.length, 1);
  const { content } = items(NODE, { max: 0, after: "2026-11-26T10:00:00Z" });
  assert.match(content, /<max>0<\/max><after>2026-11-26T10:00:00Z<\/after>/);
});

test("a ping is what its XEP says", () => {
  assert.equal(sent(ping()).firstChild.namespaceURI, "urn:xmpp:ping");
});

const META = '<meta xmlns="urn:django-pubsub:1" event="deleted" at="2026-11-22T10:00:00Z"/>';

test("an item that says but that it is gone is a retraction", () => {
  const gone = `<item id="1"><entry xmlns="http://www.w3.org/2005/Atom">${META}</entry></item>`;
  const log = `<item id="2"><entry xmlns="http://www.w3.org/2005/Atom">${META}what it was</entry></item>`;
  const told = parseEvent(event(`<items node="/n">${gone}${log}</items>`));
  assert.deepEqual(
    told.map(({ kind, id, item }) => [kind, id ?? item.id]),
    [
      ["retract", "1"],
      ["item", "2"],
    ],
  );
});

test("a message with several items tells all of them, in order", () => {
  const told = parseEvent(event('<items node="/n"><item id="1"><entry>a</entry></item><retract id="2"/><item id="3"/></items>'));
  assert.deepEqual(told.map(({ kind, node, id, item }) => [kind, node, id ?? item.id]), [
    ["item", "/n", "1"],
    ["retract", "/n", "2"],
    ["item", "/n", "3"],
  ]);
  assert.equal(told[0].item.node, "/n");
  assert.equal(told[0].item.entry.textContent, "a");
});

test("a node's end is told, that of its items, and that of our subscription", () => {
  const end = [{ kind: "end", node: "/n" }];
  assert.deepEqual(parseEvent(event('<delete node="/n"/>')), end);
  assert.deepEqual(parseEvent(event('<purge node="/n"/>')), end);
  const subscription = (state) =>
    event(`<subscription node="/n" jid="me@guests" subscription="${state}"/>`);
  assert.deepEqual(parseEvent(subscription("none")), end);
  assert.deepEqual(parseEvent(subscription("subscribed")), []);
});

test("the last item, which a new subscriber is sent, is told as such", () => {
  const delay = '<delay xmlns="urn:xmpp:delay" stamp="2026-11-26T10:00:00Z"/>';
  const message = (inside) =>
    element(
      `<message xmlns="jabber:client"><event xmlns="${PUBSUB}#event"><items node="/n">${inside}` +
        `</items></event>${delay}</message>`,
    );
  const [last, ...others] = parseEvent(message('<item id="1"><entry>a</entry></item>'));
  assert.deepEqual(others, []);
  assert.deepEqual([last.kind, last.item.id, last.stamp], ["last", "1", "2026-11-26T10:00:00Z"]);
  assert.deepEqual(parseEvent(message('<retract id="1"/>')), []);
});

test("a headline is an event like any other", () => {
  assert.equal(parseEvent(event('<items node="/n"><item/></items>', 'type="headline"')).length, 1);
});

test("what is no event tells nothing", () => {
  for (const stanza of [
    element('<message xmlns="jabber:client"><body>hi</body></message>'),
    element('<message xmlns="jabber:client"><event><items node="/n"><item/></items></event></message>'),
    event('<items node="/n"><item/></items>', 'type="error"'),
    event("<items><item/></items>"),
    event('<configuration node="/n"/>'),
    event("<purge/>text"),
    event('<items node="/n">text<strange/></items>'),
    event(""),
  ]) {
    assert.deepEqual(parseEvent(stanza), []);
  }
});

test("an entry that contains an event is a payload, not an event", () => {
  const inner = `<event xmlns="${PUBSUB}#event"><items node="/evil"><item/></items></event>`;
  const told = parseEvent(event(`<items node="/n"><item id="1"><entry>${inner}</entry></item></items>`));
  assert.deepEqual(told.map(({ node }) => node), ["/n"]);
});

test("JSON that cannot be read loses no item of the message", () => {
  const bad = '<item id="1"><entry><json xmlns="urn:xmpp:json:0">{</json></entry></item>';
  const problems = [];
  const told = parseEvent(event(`<items node="/n">${bad}<item id="2"/></items>`), (e) => problems.push(e));
  assert.deepEqual(told.map(({ item }) => item.id), ["1", "2"]);
  assert.equal(problems.length, 1);
});

test("the answer to items holds the node's items", () => {
  const list = answer('<items node="/n"><item id="1"><entry>a</entry></item><item id="2"/></items>');
  const { items: found, ...rest } = parseItems(list);
  assert.deepEqual(found.map(({ node, id }) => [node, id]), [["/n", "1"], ["/n", "2"]]);
  assert.deepEqual(rest, { next: undefined, count: undefined });
  assert.deepEqual(parseItems(element('<iq xmlns="jabber:client" type="result"/>')).items, []);
});

test("the answer to items says how many there are, and where the next page begins", () => {
  const page = (index, count, inside = '<item id="1"/><item id="2"/>') => {
    const bounds = `<count>${count}</count><first index="${index}">T1</first><last>T2</last>`;
    const set = `<set xmlns="http://jabber.org/protocol/rsm">${bounds}</set>`;
    const { next, count: all } = parseItems(answer(`${set}<items node="/n">${inside}</items>`));
    return [next, all];
  };
  assert.deepEqual(page(0, 5), ["T2", 5]);
  assert.deepEqual(page(2, 5), ["T2", 5]);
  assert.deepEqual(page(3, 5), [undefined, 5]);
  assert.deepEqual(page(5, 5, ""), [undefined, 5]);
});

test("an item of which nothing but a tombstone is left is not among the node's items", () => {
  const gone = `<item id="1"><entry xmlns="http://www.w3.org/2005/Atom">${META}</entry></item>`;
  assert.deepEqual(parseItems(answer(`<items node="/n">${gone}</items>`)).items, []);
});

test("the answer to publish holds the item's id, if the server tells it", () => {
  assert.equal(parsePublished(answer('<publish node="/n"><item id="5F"/></publish>')), "5F");
  assert.equal(parsePublished(element('<iq xmlns="jabber:client" type="result"/>')), "");
});

test("a refusal has the server's condition, type, text and pubsub condition", () => {
  const error = parseError(
    element(
      `<iq xmlns="jabber:client" type="error" from="pubsub.example.org"><pubsub xmlns="${PUBSUB}"/>` +
        '<error type="cancel"><not-allowed xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/>' +
        '<text xmlns="urn:ietf:params:xml:ns:xmpp-stanzas">You are not on the list</text>' +
        `<closed-node xmlns="${PUBSUB}#errors"/></error></iq>`,
    ),
  );
  assert.ok(error instanceof PubSubError && error instanceof Error);
  assert.equal(error.name, "PubSubError");
  assert.equal(error.condition, "not-allowed");
  assert.equal(error.type, "cancel");
  assert.equal(error.text, "You are not on the list");
  assert.equal(error.pubsubCondition, "closed-node");
  assert.equal(error.message, 'pubsub.example.org refused: not-allowed (closed-node) "You are not on the list"');
});

test("a refusal without reasons is an error nevertheless", () => {
  for (const inner of ["", "<error/>", "<error type='wait'>text</error>"]) {
    const error = parseError(element(`<iq xmlns="jabber:client" type="error">${inner}</iq>`));
    assert.equal(error.condition, "undefined-condition");
    assert.equal(error.pubsubCondition, "");
  }
});

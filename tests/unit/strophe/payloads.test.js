import assert from "node:assert/strict";
import { test } from "node:test";

import { buildEntry, readItem, readMark } from "../../../media/strophe/src/payloads.js";
import { element } from "./dom.js";

const ATOM = "http://www.w3.org/2005/Atom";
const entry = (inner) => `<entry xmlns="${ATOM}">${inner}</entry>`;
const item = (payload, onProblem) => readItem(element(`<item id="42">${payload}</item>`), "/n", onProblem);
const object = (inner) =>
  `<django-objects version="1.0" xmlns=""><object model="blog.post" pk="42">${inner}</object></django-objects>`;
const fields = (inner) => item(entry(object(inner))).fields;
const field = (type, text) => fields(`<field name="f" type="${type}">${text}</field>`).f;

test("text becomes exactly the entry's text", () => {
  const built = element(buildEntry("Hello <b>&"));
  assert.equal(built.namespaceURI, ATOM);
  assert.equal(built.textContent, "Hello <b>&");
});

test("data becomes JSON in XEP-0335's element and comes back the same", () => {
  for (const data of [{ a: [1, "<ü>", null] }, [1, 2], 7, true, null]) {
    assert.deepEqual(item(buildEntry(data)).data, data);
  }
});

test("an element is wrapped in an entry, with its namespace", () => {
  const built = element(buildEntry(element('<seat xmlns="urn:x" row="1">free</seat>')));
  assert.equal(built.localName, "entry");
  assert.equal(built.firstChild.namespaceURI, "urn:x");
});

test("an element that is an entry already is left as it is", () => {
  const built = element(buildEntry(element(entry("<title>t</title>"))));
  assert.equal(built.firstChild.localName, "title");
});

test("what cannot be published is refused at the call", () => {
  assert.throws(() => buildEntry(undefined), /Cannot publish undefined/);
  assert.throws(() => buildEntry(() => 1), /Cannot publish/);
  assert.throws(() => buildEntry("\u0007"), RangeError);
});

test("an item has node, id, event, time and origin of its publication", () => {
  const meta =
    '<meta xmlns="urn:django-pubsub:1" event="updated" at="2026-11-22T10:00:00.123456Z" origin="o-1"/>';
  const read = item(entry(`${meta}Hello`));
  assert.equal(read.node, "/n");
  assert.equal(read.id, "42");
  assert.equal(read.event, "updated");
  assert.equal(read.published, "2026-11-22T10:00:00.123456Z");
  assert.equal(read.origin, "o-1");
  assert.equal(read.entry.textContent, "Hello");
  assert.equal(read.fields, undefined);
  assert.equal(read.data, undefined);
});

test("an item may bear the number of its sending, which is no part of what pages get", () => {
  const read = item(entry('<meta xmlns="urn:django-pubsub:1" seq="a1.7"/>Hello'));
  assert.deepEqual(readMark(read), { seq: "a1.7", at: "", print: "a1.7" });
  assert.equal("seq" in read, false);
});

test("without a number the time tells an item from others, and without both its content", () => {
  const at = "2026-11-22T10:00:00.123456Z";
  const timed = item(entry(`<meta xmlns="urn:django-pubsub:1" at="${at}"/>Hello`));
  assert.deepEqual(readMark(timed), { seq: "", at, print: at });
  const plain = item(entry("Hello"));
  assert.deepEqual(readMark(plain), { seq: "", at: "", print: entry("Hello") });
  assert.deepEqual(readMark(item("")), { seq: "", at: "", print: "" });
});

test("somebody else's meta is not ours", () => {
  assert.equal(item(entry('<meta event="x"/>')).event, undefined);
  assert.equal(readMark(item(entry('<meta seq="a1.7"/>'))).seq, "");
});

test("an item without payload, or with a foreign one, is an item nevertheless", () => {
  assert.deepEqual({ ...item("") }, {
    node: "/n", id: "42", event: undefined, published: undefined, origin: undefined, entry: null,
    fields: undefined, data: undefined,
  });
  assert.equal(item('<geoloc xmlns="urn:geo"><lat>1</lat></geoloc>').entry.localName, "geoloc");
  assert.equal(readItem(element("<item/>"), "/n").id, "");
});

test("invalid JSON leaves no data, and is told", () => {
  const problems = [];
  const read = item(entry('<json xmlns="urn:xmpp:json:0">{"a": alert(1)}</json>'), (e) => problems.push(e));
  assert.equal(read.data, undefined);
  assert.match(problems[0].message, /alert\(1\)/);
});

test("text and what JavaScript has no type for stay text", () => {
  assert.equal(field("CharField", " a &amp; b "), " a & b ");
  assert.equal(field("DecimalField", "19.90"), "19.90");
  assert.equal(field("DateTimeField", "2026-11-22T10:00:00+00:00"), "2026-11-22T10:00:00+00:00");
  assert.equal(field("CharField", ""), "");
  assert.equal(field("CharField", "7"), "7");
});

test("numbers are numbers when nothing is lost by it", () => {
  assert.equal(field("IntegerField", "-7"), -7);
  assert.equal(field("BigAutoField", "9"), 9);
  assert.equal(field("PositiveSmallIntegerField", "0"), 0);
  assert.equal(field("FloatField", "1.5e3"), 1500);
  assert.equal(field("BigIntegerField", "9223372036854775807"), "9223372036854775807");
  assert.equal(field("FloatField", "nan"), "nan");
  assert.equal(field("IntegerField", ""), "");
});

test("truth is boolean", () => {
  assert.equal(field("BooleanField", "True"), true);
  assert.equal(field("BooleanField", "False"), false);
  assert.equal(field("BooleanField", "maybe"), "maybe");
});

test("JSONField is parsed, and stays text when it cannot be", () => {
  assert.deepEqual(field("JSONField", '{"a": [1]}'), { a: [1] });
  assert.equal(field("JSONField", "{a"), "{a");
});

test("None is null", () => {
  assert.equal(field("IntegerField", "<None/>"), null);
  assert.equal(field("CharField", "<None></None>"), null);
});

test("a relation is the key that Django writes", () => {
  const one = (inner) => fields(`<field name="f" rel="ManyToOneRel" to="auth.user">${inner}</field>`).f;
  assert.equal(one("3"), "3");
  assert.equal(one("<None/>"), null);
  assert.deepEqual(one("<natural>ann</natural><natural>x</natural>"), ["ann", "x"]);
});

test("a many-to-many relation is a list of keys", () => {
  const many = (inner) => fields(`<field name="f" rel="ManyToManyRel" to="blog.tag">${inner}</field>`).f;
  assert.deepEqual(many('<object pk="1"/><object pk="b"/>'), ["1", "b"]);
  assert.deepEqual(many("<object><natural>red</natural></object>"), [["red"]]);
  assert.deepEqual(many(""), []);
});

test("the objects of a model with parents make one record", () => {
  const two = '<object pk="1"><field name="a">x</field></object><object pk="1"><field name="b">y</field></object>';
  assert.deepEqual(item(entry(`<django-objects xmlns="">${two}</django-objects>`)).fields, { a: "x", b: "y" });
});

test("a hostile field name does not touch the prototype", () => {
  const read = fields('<field name="__proto__">x</field><field name="constructor">y</field>');
  assert.equal(Object.getPrototypeOf(read), Object.prototype);
  assert.deepEqual(Object.keys(read), ["__proto__", "constructor"]);
  assert.equal({}.x, undefined);
});

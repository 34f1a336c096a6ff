import assert from "node:assert/strict";
import { test } from "node:test";

import { child, children, escapeXml, xml } from "../../../media/strophe/src/xml.js";
import { element } from "./dom.js";

test("attributes are escaped, and undefined ones left out", () => {
  assert.equal(xml("item", { id: `"<&>'`, node: undefined }), '<item id="&#34;&#60;&#38;&#62;&#39;"/>');
});

test("what is inside is taken as it is", () => {
  assert.equal(xml("a", {}, "<b/>", escapeXml("<c>")), "<a><b/>&#60;c&#62;</a>");
});

test("escaped text survives a parser unchanged", () => {
  const text = `]]> & <b attr="x">'ü😀'</b>\n\t`;
  assert.equal(element(xml("t", {}, escapeXml(text))).textContent, text);
});

test("line breaks and tabs survive in attributes and in text", () => {
  const text = "a\nb\tc\rd";
  const parsed = element(xml("t", { a: text }, escapeXml(text)));
  assert.deepEqual([parsed.getAttribute("a"), parsed.textContent], [text, text]);
});

test("a character that would end the stream is named, with its place", () => {
  assert.throws(() => escapeXml("ab\bc"), /U\+0008 at position 2/);
  assert.throws(() => escapeXml("\uffff"), /U\+FFFF at position 0/);
  assert.throws(() => escapeXml("x\ud83d"), /U\+D83D at position 1/);
  assert.throws(() => xml("item", { id: "\u0000" }), RangeError);
});

test("children are elements, chosen by name and namespace", () => {
  const root = element('<r>text<a/><!-- no --><b xmlns="urn:x"/><a xmlns="urn:x"/></r>');
  assert.deepEqual(children(root).map((e) => e.localName), ["a", "b", "a"]);
  assert.equal(children(root, "a").length, 2);
  assert.equal(child(root, "a", "urn:x"), children(root)[2]);
  assert.equal(child(root, "c"), undefined);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { isHarmless } from "../../../media/strophe/src/rows.js";

test("attributes that run something are refused, whatever is in them", () => {
  for (const name of ["onclick", "ONLOAD", "on", "style", "Style", "srcdoc"]) {
    assert.equal(isHarmless(name, ""), false, name);
  }
});

test("what is no attribute's name is refused", () => {
  for (const name of ["", "a b", "a=b", "a<b", 'a"b']) {
    assert.equal(isHarmless(name, ""), false, name);
  }
});

test("an address leads to the web, to a letter or to a call", () => {
  for (const text of [
    "https://example.org/?a=1",
    "HTTP://example.org",
    "mailto:ada@example.org",
    "tel:+49301234",
    "/a/path",
    "page.html#part",
    "?page=2",
    "//example.org/",
    "",
  ]) {
    assert.equal(isHarmless("href", text), true, text);
  }
});

test("an address that runs something is refused, however it is written", () => {
  for (const text of [
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    " \u0001javascript:alert(1)",
    "java\nscript:alert(1)",
    "\tjava\tscript\t:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "blob:https://example.org/x",
    "file:///etc/passwd",
    "http://[",
  ]) {
    for (const name of ["href", "HREF", "xlink:href", "src", "action", "formaction", "data", "to"]) {
      assert.equal(isHarmless(name, text), false, `${name}=${text}`);
    }
  }
});

test("other attributes may hold any text", () => {
  for (const name of ["title", "datetime", "class", "aria-label", "data-id", "content"]) {
    assert.equal(isHarmless(name, "note: javascript:alert(1)"), true, name);
  }
});

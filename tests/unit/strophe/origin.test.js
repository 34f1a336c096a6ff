import assert from "node:assert/strict";
import { createHash, webcrypto } from "node:crypto";
import { test } from "node:test";

import { Origin } from "../../../media/strophe/src/origin.js";

globalThis.crypto ??= webcrypto;

const publicForm = (id) => createHash("sha256").update(id).digest("base64url").slice(0, 22);

/** A page on plain http, where browsers withhold crypto.subtle; its warnings. */
function onPlainHttp(t) {
  t.mock.getter(Object.getPrototypeOf(crypto), "subtle", () => undefined);
  const warnings = [];
  t.mock.method(console, "warn", (text) => warnings.push(text));
  return warnings;
}

test("an id has 32 characters that a header may bear, and no two pages have one", () => {
  const ids = Array.from({ length: 200 }, () => new Origin().id);
  ids.forEach((id) => assert.match(id, /^[A-Za-z0-9_-]{32}$/));
  assert.equal(new Set(ids).size, 200);
});

test("an item is the page's own when it bears the public form of its id", async () => {
  // As many as show every character of base64.
  for (let round = 0; round < 50; round++) {
    const origin = new Origin();
    await origin.ready;
    assert.ok(origin.made({ origin: publicForm(origin.id) }));
  }
});

test("no other item is: without an origin, with another's, with the id itself", async () => {
  const [origin, other] = [new Origin(), new Origin()];
  await origin.ready;
  for (const foreign of [undefined, "", publicForm(other.id), origin.id, origin.id.slice(0, 22)]) {
    assert.ok(!origin.made({ origin: foreign }), foreign);
  }
});

test("without crypto.subtle no item is the page's own, which is said once, where it matters", async (t) => {
  const warnings = onPlainHttp(t);
  const origin = new Origin();
  await origin.ready;
  assert.match(origin.id, /^[A-Za-z0-9_-]{32}$/);
  assert.ok(!origin.made({ origin: publicForm(origin.id) }));
  assert.ok(!origin.made({}));
  assert.deepEqual(warnings, []);
  origin.needed();
  origin.needed();
  assert.equal(warnings.length, 1);
  assert.match(warnings[0], /excludeSelf.*crypto\.subtle.*https/);
});

test("with crypto.subtle nothing is said", (t) => {
  t.mock.method(console, "warn", (text) => assert.fail(text));
  new Origin().needed();
});

test("a digest that fails is reported, and keeps nobody waiting", async (t) => {
  const seen = [];
  t.mock.method(console, "error", (error) => seen.push(error));
  t.mock.method(crypto.subtle, "digest", () => Promise.reject(new Error("no digest")));
  const origin = new Origin();
  await origin.ready;
  assert.ok(!origin.made({ origin: publicForm(origin.id) }));
  assert.equal(seen[0].message, "no digest");
});

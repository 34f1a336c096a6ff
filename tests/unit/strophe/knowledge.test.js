import assert from "node:assert/strict";
import { test } from "node:test";

import { Knowledge } from "../../../media/strophe/src/knowledge.js";
import { NEWS, STALE } from "../../../media/strophe/src/repeats.js";
import { readItem } from "../../../media/strophe/src/payloads.js";
import { element } from "./dom.js";

const SINCE = "2026-11-26T10:00:00.000Z";
const EARLIER = "2026-11-26T09:00:00.000Z";
const LATER = "2026-11-26T10:00:01.000Z";

function item(id, { seq = "", at = "" } = {}) {
  const meta = `<meta xmlns="urn:django-pubsub:1"${seq && ` seq="${seq}"`}${at && ` at="${at}"`}/>`;
  const entry = `<entry xmlns="http://www.w3.org/2005/Atom">${meta}text</entry>`;
  return readItem(element(`<item id="${id}">${entry}</item>`), "/n");
}
const event = (one) => ({ kind: "item", node: "/n", item: one });
const last = (one, stamp) => ({ kind: "last", node: "/n", item: one, stamp });

test("what was published since the page's request came is news, and what was before is not", () => {
  const known = new Knowledge({ since: SINCE });
  assert.equal(known.found(item("1", { at: EARLIER }), false), STALE);
  assert.equal(known.found(item("2", { at: LATER }), false), NEWS);
});

test("what was created on the server since is news, whenever it was saved", () => {
  const known = new Knowledge({ since: SINCE });
  assert.equal(known.since, SINCE);
  assert.equal(known.found(item("1", { at: EARLIER }), true), NEWS);
  assert.equal(known.found(item("2"), true), NEWS);
});

test("once all items were known whatever is unknown is news", () => {
  const known = new Knowledge({ since: SINCE });
  known.found(item("1", { at: EARLIER }), false);
  known.caughtUp(true);
  assert.equal(known.since, undefined);
  assert.equal(known.found(item("1", { at: EARLIER }), false), STALE);
  assert.equal(known.found(item("2", { at: EARLIER }), false), NEWS);
});

test("a page is up to date if the last item is the one that it heard last", () => {
  const known = new Knowledge({ since: SINCE });
  known.event(event(item("1", { seq: "s.1" })));
  assert.ok(known.isUpToDate(last(item("1", { seq: "s.1" }), LATER)));
  assert.ok(!known.isUpToDate(last(item("1", { seq: "s.2" }), LATER)));
  known.event({ kind: "retract", node: "/n", id: "2" });
  assert.ok(known.isUpToDate(last(item("1", { seq: "s.1" }), LATER)));
  known.event({ kind: "retract", node: "/n", id: "1" });
  assert.ok(!known.isUpToDate(last(item("1", { seq: "s.1" }), LATER)));
});

test("a page is up to date if the server got its last item long before the page", () => {
  const known = new Knowledge({ since: SINCE });
  assert.ok(known.isUpToDate(last(item("1"), EARLIER)));
  // Clocks may differ by a minute.
  assert.ok(!known.isUpToDate(last(item("1"), "2026-11-26T09:59:30.000Z")));
});

test("without a time of rendering what the server got before the page is no news", () => {
  const known = new Knowledge();
  assert.ok(known.isUpToDate(last(item("1", { seq: "s.1" }), EARLIER)));
  assert.ok(!known.isUpToDate(last(item("1", { seq: "s.2" }), LATER)));
  assert.equal(known.found(item("1", { seq: "s.2", at: LATER }), false), NEWS);
  assert.equal(known.found(item("2", { seq: "s.0", at: "2026-11-26T08:00:00Z" }), false), STALE);
});

test("what is not found any more is gone, and is told once", () => {
  const known = new Knowledge({ since: SINCE });
  ["1", "2"].forEach((id) => known.event(event(item(id, { seq: "s.1" }))));
  const found = new Map([["2", item("2")]]);
  assert.deepEqual([...known.gone(found)], ["1"]);
  assert.deepEqual([...known.gone(found)], []);
  assert.deepEqual(known.alive, ["2"]);
});

test("of a log only what came a minute before the last that was known is asked for again", () => {
  const known = new Knowledge({ since: SINCE, log: true });
  assert.equal(known.bound, "2026-11-26T09:59:00.000Z");
  known.caughtUp(false, last(item("1"), "2026-11-26T12:00:00.000Z"));
  assert.equal(known.bound, "2026-11-26T11:59:00.000Z");
  assert.equal(new Knowledge({ log: true }).bound, undefined);
});

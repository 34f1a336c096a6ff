import assert from "node:assert/strict";
import { test } from "node:test";

import { graft, Intake, parts } from "../../../media/strophe/src/intake.js";
import { documents, element } from "./dom.js";

Object.assign(globalThis, documents);

const text = (node) => new globalThis.XMLSerializer().serializeToString(node);

/** So many items, as a server sends them: nested, escaped, some empty, some large. */
function items(count, size = 100) {
  const item = (id) =>
    `<item id='${id}'><entry xmlns='http://www.w3.org/2005/Atom' title="a &gt; 'b'">` +
    `<meta xmlns='urn:django-pubsub:1' at="'"/>${"&lt;x&gt; ".repeat((size * id) % 977)}<b><b/>c</b></entry></item>`;
  return Array.from({ length: count }, (_, id) => item(id)).join("");
}

const answer = (inside) =>
  `<iq xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1'><pubsub xmlns='urn:x'>` +
  `<items node='/a&apos;>'>${inside}</items><set xmlns='urn:y'><count>3</count></set></pubsub></iq>`;
const message = (id) => `<message id='${id}'><event xmlns='urn:e'>${items(3, id)}</event></message>`;
const body = (...inside) => `<body xmlns='http://jabber.org/protocol/httpbind'>${inside.join("")}</body>`;

/** What an intake delivers, and when it is done with all. */
async function taken(...texts) {
  const told = [];
  const intake = new Intake(
    (part) => told.push(...Array.from(part.childNodes, (child) => child.getAttribute("id"))),
    () => {},
  );
  texts.forEach((one, index) => intake.take(one, () => told.push(`short ${index}`)));
  while (!told.includes(`short ${texts.length - 1}`)) {
    await new Promise((resolve) => setTimeout(resolve));
  }
  return told;
}

test("what is cut into parts is put together again as it was", () => {
  for (const whole of [answer(items(400)), body(answer(items(200)), message(1)), body("a".repeat(9))]) {
    const cut = [...parts(whole)];
    const made = element(cut[0].part);
    cut.slice(1).forEach(({ part, inside }) => graft(made, element(part), inside));
    assert.ok(cut.length > 5 || whole.length < 100);
    assert.equal(text(made), text(element(whole)));
  }
});

test("no part is long, but for what is long without an element in it", () => {
  const lengths = [...parts(answer(items(400)))].map(({ part }) => part.length);
  assert.ok(Math.max(...lengths) < 40_000, `${Math.max(...lengths)}`);
});

test("between stanzas is where a text is cut if possible", () => {
  const whole = body(...Array.from({ length: 200 }, (_, id) => message(id)));
  assert.ok([...parts(whole)].slice(1).every(({ inside }) => inside <= 1));
});

test("a short text is handled at once", () => {
  const told = [];
  const intake = new Intake(assert.fail, assert.fail);
  intake.take("<a/>", () => told.push("a"));
  intake.take("<b/>", () => told.push("b"));
  assert.deepEqual(told, ["a", "b"]);
});

test("what comes behind a long text waits for it, and all is told in order", async () => {
  const many = Array.from({ length: 200 }, (_, id) => message(id));
  const wrapped = `<wrapper>${answer(items(300))}</wrapper>`;
  const told = await taken("<a/>", wrapped, "<b/>", body(...many), "<c/>");
  const ids = Array.from(many, (_, id) => String(id));
  assert.deepEqual(told, ["short 0", "1", "short 2", ...ids, "short 4"]);
});

test("an error in what is told harms nothing that comes later", async (t) => {
  const errors = [];
  t.mock.method(console, "error", (error) => errors.push(error.message));
  const told = [];
  const intake = new Intake(
    () => {
      throw new Error("of a long one");
    },
    () => {},
  );
  intake.take(`<wrapper>${answer(items(300))}</wrapper>`, assert.fail);
  intake.take("<a/>", () => {
    throw new Error("of a short one");
  });
  await new Promise((done) => intake.take("<b/>", () => done(told.push("b"))));
  assert.deepEqual([errors, told], [["of a long one", "of a short one"], ["b"]]);
});

test("how much waits is told, and what is not wanted any more is forgotten", async () => {
  const lengths = [];
  const long = `<wrapper>${answer(items(300))}</wrapper>`;
  const intake = new Intake(
    () => {},
    (length) => lengths.push(length),
  );
  intake.take(long, assert.fail);
  intake.take("<a/>", assert.fail);
  assert.deepEqual(lengths, [long.length, long.length + 4]);
  intake.clear();
  await new Promise((done) => intake.take("<b/>", done));
});

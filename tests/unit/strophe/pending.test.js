import assert from "node:assert/strict";
import { test } from "node:test";

import { Pending } from "../../../media/strophe/src/pending.js";
import { element } from "./dom.js";

const SERVICE = "pubsub.example.org";
const answer = (attributes, inside = "") =>
  element(`<iq xmlns="jabber:client" ${attributes}>${inside}</iq>`);
const ERROR = '<error type="auth"><forbidden xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/></error>';

test("an answer settles its own question", async () => {
  const pending = new Pending();
  const [one, two] = ["1", "2"].map((id) => pending.add(SERVICE, id, 60_000));
  const result = answer(`id="2" from="${SERVICE}" type="result"`);
  pending.answer(result);
  pending.answer(answer(`id="1" from="${SERVICE}" type="error"`, ERROR));
  assert.equal(await two, result);
  await assert.rejects(one, { condition: "forbidden", type: "auth" });
});

test("only the one who was asked may answer", async () => {
  const pending = new Pending();
  const question = pending.add(SERVICE, "1", 60_000);
  pending.answer(answer('id="1" from="mallory@example.org" type="result"'));
  pending.answer(answer('id="1" type="result"'));
  pending.answer(answer(`id="7" from="${SERVICE}" type="result"`));
  pending.end();
  await assert.rejects(question, { condition: "disconnected" });
});

test("a question without an answer fails in time, and for the moment only", async () => {
  const question = new Pending().add(SERVICE, "1", 1);
  await assert.rejects(question, { condition: "timeout", type: "wait", message: /pubsub\.example/ });
});

test("who asks in the moment of the end waits for the next answers", async () => {
  const pending = new Pending();
  const first = pending.add(SERVICE, "1", 60_000);
  let second;
  const asked = first.catch(() => (second = pending.add(SERVICE, "2", 60_000)));
  pending.end();
  pending.answer(answer(`id="2" from="${SERVICE}" type="result"`));
  setTimeout(() => pending.end());
  await assert.rejects(asked, { condition: "disconnected" });
  assert.ok(second);
});

test("what is no answer to a question that waits is not expected", async () => {
  const pending = new Pending();
  const question = pending.add("pubsub.x", "id-1", 1000).catch(() => {});
  assert.equal(pending.expects("<iq type='result' id='id-1'/>"), true);
  assert.equal(pending.expects("<iq type='result' id='id-2'/>"), false);
  pending.end();
  await question;
  assert.equal(pending.expects("<iq type='result' id='id-1'/>"), false);
});

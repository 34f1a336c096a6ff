import assert from "node:assert/strict";
import { test } from "node:test";

import { Site } from "../../../media/strophe/src/site.js";
import { setGlobals } from "./globals.js";

const ANSWER = {
  jid: "5@users",
  password: "token",
  expires: 1,
  authorizeUrl: "/pubsub/authorize/",
  csrfToken: "a",
};
const NODE = "/blog/Blog/5";
const PAGE = "<h1>CSRF verification failed</h1>";

/** What Django answers: data as JSON, text as a page, an Error as none at all. */
const answer = (status, body = {}) => {
  if (body instanceof Error) {
    throw body;
  }
  const isJson = typeof body !== "string";
  const headers = { "Content-Type": isJson ? "application/json" : "text/html; charset=utf-8" };
  return new Response(isJson ? JSON.stringify(body) : body, { status, headers });
};

/** A site, and what was asked of it; the answers are taken in turn, the last of each kind stays. */
function site(t, { credentials = [[200, ANSWER]], authorize = [[200]], url = "/pubsub/credentials/", jid } = {}) {
  const asked = [];
  const next = (answers) => answer(...(answers.length > 1 ? answers.shift() : answers[0]));
  setGlobals(t, {
    async fetch(address, init = {}) {
      asked.push({ address, ...init });
      await null;
      return next(init.method === "POST" ? authorize : credentials);
    },
  });
  return { asked, site: new Site(url, jid), addresses: () => asked.map(({ address }) => address) };
}

test("it says with what to log in, and nothing is cached or sent elsewhere", async (t) => {
  const { asked, site: it } = site(t);
  assert.deepEqual(await it.credentials(), { jid: "5@users", password: "token" });
  const [{ address, signal, ...how }] = asked;
  assert.equal(address, "/pubsub/credentials/");
  assert.ok(signal instanceof AbortSignal);
  assert.deepEqual(how, {
    headers: { Accept: "application/json" },
    mode: "same-origin",
    credentials: "same-origin",
    cache: "no-store",
  });
});

test("after a refusal the site is told which attempt it is", async (t) => {
  const { site: it, addresses } = site(t);
  await it.credentials(0);
  await it.credentials(1);
  assert.deepEqual(addresses(), ["/pubsub/credentials/", "/pubsub/credentials/?attempt=1"]);
  const { site: other, addresses: others } = site(t, { url: "/login/?for=x" });
  await other.credentials(1);
  assert.deepEqual(others(), ["/login/?for=x&attempt=1"]);
});

test("who is not signed in, or comes from elsewhere, is not let in, and why is said", async (t) => {
  for (const status of [401, 403]) {
    const { site: it } = site(t, { credentials: [[status, { error: "Nobody is signed in." }]] });
    await assert.rejects(it.credentials(), {
      name: "PubSubError",
      message: "/pubsub/credentials/: Nobody is signed in.",
      condition: "not-authorized",
      type: "auth",
    });
  }
});

test("a site that cannot answer now may be asked again", async (t) => {
  for (const [status, body, words] of [
    [503, "<h1>busy</h1>", /HTTP status 503/],
    [429, {}, /HTTP status 429/],
    [200, "<h1>Sign in</h1>", /HTTP status 200/],
    [0, new TypeError("Failed to fetch"), /Failed to fetch/],
  ]) {
    const { site: it } = site(t, { credentials: [[status, body]] });
    await assert.rejects(it.credentials(), { message: words, condition: "connection-failed", type: "wait" });
  }
});

test("a page made for one user says nothing to another", async (t) => {
  const { site: it } = site(t, { credentials: [[200, ANSWER], [200, { ...ANSWER, jid: "6@users" }]] });
  await it.credentials();
  await assert.rejects(it.credentials(), { message: /made for 5@users, not for 6@users/, type: "auth" });
});

test("a page that says whose it is gives nothing to who has signed in before its first request", async (t) => {
  const { site: it } = site(t, { jid: "6@users" });
  await assert.rejects(it.credentials(), { message: /made for 6@users, not for 5@users/, type: "auth" });
  const { site: own } = site(t, { jid: "5@users" });
  assert.equal((await own.credentials()).jid, "5@users");
});

test("it is asked for a private node with the token of the last answer", async (t) => {
  const { asked, site: it } = site(t, { credentials: [[200, { ...ANSWER, csrfHeader: "X-Mine" }]] });
  await it.credentials();
  assert.equal(await it.authorize(NODE), true);
  const { address, method, headers, body, credentials } = asked[1];
  assert.deepEqual([address, method, credentials], ["/pubsub/authorize/", "POST", "same-origin"]);
  assert.deepEqual(JSON.parse(body), { node: NODE });
  assert.deepEqual(headers, {
    Accept: "application/json",
    "Content-Type": "application/json",
    "X-Mine": "a",
  });
});

test("a user whom the rule refuses is refused", async (t) => {
  for (const status of [403, 400, 404, 413]) {
    const { site: it, asked } = site(t, { authorize: [[status, { error: "No." }]] });
    await it.credentials();
    assert.equal(await it.authorize(NODE), false);
    assert.equal(asked.length, 2);
  }
});

test("where no credentials were asked for yet they are, for the token", async (t) => {
  const { site: it, addresses } = site(t);
  assert.equal(await it.authorize(NODE), true);
  assert.deepEqual(addresses(), ["/pubsub/credentials/", "/pubsub/authorize/"]);
});

test("an old token is renewed once", async (t) => {
  for (const stale of [[403, PAGE], [401, { error: "Sign in." }]]) {
    const credentials = [[200, ANSWER], [200, { ...ANSWER, csrfToken: "b" }]];
    const { asked, site: it } = site(t, { credentials, authorize: [stale, [200]] });
    await it.credentials();
    assert.equal(await it.authorize(NODE), true);
    assert.equal(asked.at(-1).headers["X-CSRFToken"], "b");
    assert.equal(asked.length, 4);
  }
  const { asked, site: it } = site(t, { authorize: [[403, PAGE]] });
  await it.credentials();
  assert.equal(await it.authorize(NODE), false);
  assert.equal(asked.length, 4);
});

test("who has signed out meanwhile is told so", async (t) => {
  const out = [401, { error: "Nobody is signed in." }];
  const { asked, site: it } = site(t, { credentials: [[200, ANSWER], out], authorize: [out] });
  await it.credentials();
  await assert.rejects(it.authorize(NODE), { message: /Nobody is signed in/, type: "auth" });
  assert.equal(asked.length, 3);
});

test("a site that cannot admit now may be asked again, and says what there is to say", async (t) => {
  const { site: it } = site(t, {
    credentials: [[200, ANSWER], [503, "busy"], [200, ANSWER]],
    authorize: [[503, { error: "The XMPP server does not answer." }], [403, PAGE], [200]],
  });
  await it.credentials();
  await assert.rejects(it.authorize(NODE), { message: `${NODE}: The XMPP server does not answer.`, type: "wait" });
  await assert.rejects(it.authorize(NODE), { message: /HTTP status 503/, type: "wait" });
  assert.equal(await it.authorize(NODE), true);
});

test("six nodes are asked about at once, and with an old token it is renewed once for all", async (t) => {
  const { asked, site: it } = site(t, { authorize: [...Array(6).fill([403, PAGE]), [200]] });
  await it.credentials();
  const nodes = Array.from({ length: 9 }, (_, number) => `/n/${number}`);
  const all = Promise.all(nodes.map((node) => it.authorize(node)));
  await null;
  assert.equal(asked.length, 1 + 6);
  assert.deepEqual(await all, Array(9).fill(true));
  assert.equal(asked.filter(({ method }) => !method).length, 2);
  const named = asked.filter(({ method }) => method).map(({ body }) => JSON.parse(body).node);
  assert.deepEqual(new Set(named), new Set(nodes));
});

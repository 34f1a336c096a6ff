import assert from "node:assert/strict";
import { test } from "node:test";
import { webcrypto } from "node:crypto";

import { credentials, credentialSource, escapeNode, guestJid } from "../../../media/strophe/src/credentials.js";

globalThis.crypto ??= webcrypto;

const config = {
  service: "pubsub.example.org",
  guestDomain: "guests.example.org",
  userDomain: "users.example.org",
};
const jid = (nick) => guestJid(nick, "g.org", "00ff");

test("a guest's address carries his nick, lower case, and something unique", () => {
  assert.equal(jid("Zoe"), "zoe-00ff@g.org/page");
});

test("a guest without a nick has an address too", () => {
  assert.equal(jid(""), "guest-00ff@g.org/page");
  assert.equal(jid("  😀 "), "guest-00ff@g.org/page");
});

test("what an address cannot hold is escaped or left out", () => {
  assert.equal(jid("a@b c/d"), "a\\40b\\20c\\2fd-00ff@g.org/page");
  assert.equal(jid("a\u0000\u200b\ud800b😀c"), "a\\20b\\20c-00ff@g.org/page");
});

test("letters that a server may not know yet are left out, others stay", () => {
  assert.equal(jid("𞤀ᲀ\u2e3a"), "guest-00ff@g.org/page");
  assert.equal(jid("Zoë Ωμέγα Жук 漢字 かな 한글"), "zoë\\20ωμέγα\\20жук\\20漢字\\20かな\\20한글-00ff@g.org/page");
});

test("a long nick is shortened before it is escaped, so that no escape is cut", () => {
  assert.equal(jid("@".repeat(100)), `${"\\40".repeat(24)}-00ff@g.org/page`);
  assert.equal(jid(`${"x".repeat(23)} yz`), `${"x".repeat(23)}-00ff@g.org/page`);
});

test("escaping follows XEP-0106", () => {
  assert.equal(escapeNode(`d'artagnan & "co" <a:b>`), "d\\27artagnan\\20\\26\\20\\22co\\22\\20\\3ca\\3ab\\3e");
  assert.equal(escapeNode("c:\\5commas"), "c\\3a\\5c5commas");
  assert.equal(escapeNode("back\\slash"), "back\\slash");
});

test("a guest comes back under the address that he had", () => {
  const guest = credentials({ nick: "me" }, config);
  assert.equal(guest.kind, "guest");
  assert.equal(guest.isGuest, true);
  const [one, two] = [guest.login(false), guest.login(false)];
  assert.match(one.jid, /^me-[0-9a-f]{16}@guests\.example\.org\/page$/);
  assert.equal(one.jid, two.jid);
});

test("no two guests have one address", () => {
  const [one, two] = [credentials({ nick: "me" }, config), credentials({ nick: "me" }, config)];
  assert.notEqual(one.login().jid, two.login().jid);
});

test("nothing but a configuration makes a guest", () => {
  assert.equal(credentials({}, config).kind, "guest");
  assert.equal(credentials({ username: "", password: "" }, config).kind, "guest");
});

test("an account logs in at the users' domain and is no guest", () => {
  const account = credentials({ username: "ann@home", password: "pw" }, config);
  assert.equal(account.isGuest, false);
  assert.deepEqual(account.login(), { jid: "ann\\40home@users.example.org", password: "pw" });
});

test("an account without a password is refused at the call", () => {
  assert.throws(() => credentials({ username: "ann" }, config), /password.*"ann"/);
});

test("a way to log in without its domain is refused at the call", () => {
  const bare = { service: config.service };
  assert.throws(() => credentials({}, bare), /needs "guestDomain"/);
  assert.throws(() => credentials({ username: "a", password: "b" }, bare), /needs "userDomain"/);
});

test("a session is attached to by jid, sid and rid, a rid in text included", () => {
  const attached = credentials({ jid: "x@guests.example.org/r", sid: "s", rid: "17" }, config);
  assert.equal(attached.kind, "attached");
  assert.equal(attached.isGuest, true);
  assert.deepEqual(attached.login(), { jid: "x@guests.example.org/r", sid: "s", rid: 17 });
});

test("an attached user is no guest", () => {
  const session = { jid: "ann@users.example.org/a@b/c", sid: "s", rid: 1 };
  assert.equal(credentials(session, config).isGuest, false);
});

test("attaching without a usable sid or rid is refused at the call", () => {
  assert.throws(() => credentials({ jid: "x@y/z", rid: 1 }, config), /password, or sid and rid/);
  assert.throws(() => credentials({ jid: "x@y/z", sid: "s", rid: "x" }, config), /rid "x"/);
});

test("an account may be given by its whole address, of which the resource does not count", () => {
  for (const address of ["5@users.example.org", "5@users.example.org/a@b/c"]) {
    const { kind, identity, isGuest, login } = credentials({ jid: address, password: "pw" }, config);
    assert.deepEqual([kind, identity, isGuest], ["account", "5@users.example.org", false]);
    assert.deepEqual(login(), { jid: "5@users.example.org", password: "pw" });
  }
});

const source = (options, site) => credentialSource(options, config, site);

test("the site is asked for each login where the options do not say who logs in", async () => {
  const asked = [];
  const site = async (refused) => {
    asked.push(refused);
    return { jid: "5@users.example.org", password: `token ${refused}` };
  };
  const { fixed, next } = source({ node: "/n" }, site);
  assert.equal(fixed, undefined);
  assert.equal((await next()).login().password, "token 0");
  assert.equal((await next(1)).login().password, "token 1");
  assert.deepEqual(asked, [0, 1]);
  for (const options of [
    { nick: "Ada" },
    { nick: "" },
    { username: "ann", password: "pw" },
    { jid: "x@guests.example.org/r", sid: "s", rid: 17 },
    { credentials: () => ({ nick: "Ada" }) },
  ]) {
    await source(options, site).next();
  }
  assert.equal(asked.length, 2);
});

test("credentials that are given once are the same for each login", async () => {
  const { fixed, next } = source({ username: "ann", password: "pw" });
  assert.equal(await next(), fixed);
  assert.equal(await next(), fixed);
});

test("a function is asked for each login", async () => {
  let count = 0;
  const ask = async (refused) => ({ username: "ann", password: `pw${++count} ${refused}` });
  const { fixed, next } = source({ credentials: ask });
  assert.equal(fixed, undefined);
  assert.equal((await next()).login().password, "pw1 0");
  assert.equal((await next(1)).login().password, "pw2 1");
});

test("a visitor for whom a function is asked keeps his address", async () => {
  const { next } = source({ credentials: () => ({ nick: "Ada" }) });
  const [one, two] = [(await next()).login(), (await next()).login()];
  assert.equal(one.jid, two.jid);
});

test("what a function says is checked, and what it throws is thrown", async () => {
  await assert.rejects(source({ credentials: () => ({ username: "ann" }) }).next(), /password.*"ann"/);
  const fault = new Error("not signed in");
  const failing = source({ credentials: () => Promise.reject(fault) });
  await assert.rejects(failing.next(), fault);
  assert.throws(() => source({ credentials: "ann" }), /credentials must be a function.*not ann/);
});

test("who shares a connection has the same identity, and nobody else has", () => {
  const identity = (options) => credentials(options, config).identity;
  assert.equal(identity({ nick: "Ada" }), identity({}));
  const ann = { username: "ann", password: "of the first login" };
  assert.equal(identity(ann), identity({ ...ann, password: "of the second" }));
  assert.ok(![identity({}), identity({ ...ann, username: "bo" })].includes(identity(ann)));
  assert.equal(identity({ jid: "x@guests.example.org/r", sid: "s", rid: 17 }), "");
});

test("a guest takes the address of the connection that he shares, and has one of his own", () => {
  const guest = credentials({ nick: "Ada" }, config);
  const address = (shared) => guest.login(shared).jid;
  const own = address(false);
  assert.notEqual(address(true), own);
  guest.adopt("bo-1@guests.example.org/page");
  assert.equal(address(true), "bo-1@guests.example.org/page");
  assert.equal(address(false), own);
});

test("a function that never answers fails in time", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const asked = source({ credentials: () => new Promise(() => {}) }).next();
  t.mock.timers.tick(15_000);
  await assert.rejects(asked, /credentials\(\) hangs/);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { Requests } from "../../../media/strophe/src/requests.js";

const HEADER = "X-PubSub-Client";
const PAGE = "https://www.example.org/blog/post/";

/** A page that notes what it fetches; what marks its requests, and what ends that. */
function page(t, { baseURI = PAGE, origin = "https://www.example.org", jQuery } = {}) {
  const fetched = [];
  const fetch = async (request) => fetched.push(request);
  Object.assign(globalThis, {
    window: { origin, fetch, jQuery },
    document: Object.assign(new EventTarget(), { baseURI }),
  });
  t.after(() => {
    delete globalThis.window;
    delete globalThis.document;
  });
  const end = new AbortController();
  return { fetched, end, requests: new Requests("secret", end.signal) };
}

/** What a request of htmx bears after all have had their say. */
function htmx(path) {
  const detail = { path, headers: { "HX-Request": "true" } };
  globalThis.document.dispatchEvent(new CustomEvent("htmx:configRequest", { detail }));
  return detail.headers;
}

const marks = (path) => HEADER in htmx(path);

/** As much of jQuery as tells of requests. */
function fakeJQuery() {
  const handlers = new Set();
  const jQuery = () => ({
    on: (name, handler) => name === "ajaxSend" && handlers.add(handler),
    off: (name, handler) => name === "ajaxSend" && handlers.delete(handler),
  });
  /** @returns what a request bears */
  jQuery.send = (url) => {
    const headers = {};
    const setRequestHeader = (name, value) => (headers[name] = value);
    handlers.forEach((handler) => handler({}, { setRequestHeader }, { url }));
    return headers;
  };
  return jQuery;
}

test("the headers are the caller's own to change", (t) => {
  const { requests } = page(t);
  requests.headers[HEADER] = "changed";
  assert.deepEqual(requests.headers, { [HEADER]: "secret" });
});

test("only what stays at the page's origin is marked", (t) => {
  page(t).requests.mark();
  for (const ours of ["", "?q=1", "#top", "x", "/x", PAGE, "//www.example.org/x", "https://www.example.org:443/"]) {
    assert.ok(marks(ours), ours);
  }
  for (const foreign of [
    "http://www.example.org/", // another scheme
    "https://www.example.org:8443/",
    "https://example.org/",
    "https://www.example.org.evil.org/",
    "https://www.example.org@evil.org/",
    "//evil.org/",
    "/\\evil.org/",
    "\t//evil.org/",
    "https:/\t/evil.org/",
    "data:text/plain,x",
    "javascript:0",
    "https://",
  ]) {
    assert.ok(!marks(foreign), foreign);
  }
});

test("addresses are relative to the page's base, as the browser has it", (t) => {
  page(t, { baseURI: "https://evil.org/" }).requests.mark();
  assert.ok(!marks("/x"));
  assert.ok(marks(PAGE));
});

test("a page without an origin of its own marks nothing", (t) => {
  page(t, { origin: "null" }).requests.mark();
  for (const address of ["/x", "data:text/plain,x", "file:///x", "about:blank"]) {
    assert.ok(!marks(address), address);
  }
});

test("marking adds to what a request bears already", (t) => {
  page(t).requests.mark();
  assert.deepEqual(htmx("/x"), { "HX-Request": "true", [HEADER]: "secret" });
});

test("jQuery's requests are marked where the page has jQuery", (t) => {
  const jQuery = fakeJQuery();
  page(t, { jQuery }).requests.mark();
  assert.deepEqual(jQuery.send("/x"), { [HEADER]: "secret" });
  assert.deepEqual(jQuery.send("//evil.org/"), {});
});

test("marking is undone by its own function, and no other's", (t) => {
  const jQuery = fakeJQuery();
  const { requests } = page(t, { jQuery });
  const [first, second] = [requests.mark(), requests.mark()];
  first();
  first();
  assert.ok(marks("/x"));
  assert.deepEqual(jQuery.send("/x"), { [HEADER]: "secret" });
  second();
  assert.ok(!marks("/x"));
  assert.deepEqual(jQuery.send("/x"), {});
});

test("the end of the client is the end of the marking, and none begins after it", (t) => {
  const jQuery = fakeJQuery();
  const { requests, end } = page(t, { jQuery });
  const undo = requests.mark();
  end.abort();
  requests.mark();
  undo();
  assert.ok(!marks("/x"));
  assert.deepEqual(jQuery.send("/x"), {});
});

test("fetch adds the header at the page's origin alone, and there it stays", async (t) => {
  const { fetched, requests } = page(t);
  await requests.fetch(`${PAGE}x`, { method: "POST", body: "text" });
  await requests.fetch("https://evil.org/", { headers: { a: "1" } });
  const [ours, foreign] = fetched;
  assert.equal(ours.headers.get(HEADER), "secret");
  assert.equal(ours.mode, "same-origin");
  assert.equal(ours.method, "POST");
  assert.equal(await ours.text(), "text");
  assert.deepEqual([...foreign.headers], [["a", "1"]]);
});

test("fetch keeps what it is given, in each way to give it", async (t) => {
  const { fetched, requests } = page(t);
  const own = { "X-Own": "1" };
  await requests.fetch(new URL(PAGE), { headers: own });
  await requests.fetch(PAGE, { headers: Object.entries(own) });
  await requests.fetch(PAGE, { headers: new Headers(own) });
  await requests.fetch(new Request(PAGE, { headers: own }));
  await requests.fetch(new Request(PAGE, { headers: { "X-Old": "0" } }), { headers: own });
  for (const { headers } of fetched) {
    assert.deepEqual([...headers], [["x-own", "1"], ["x-pubsub-client", "secret"]]);
  }
  assert.deepEqual(own, { "X-Own": "1" });
});

test("an address that is none is a rejection, as of the browser's fetch", async (t) => {
  await assert.rejects(page(t).requests.fetch("https://"), TypeError);
});

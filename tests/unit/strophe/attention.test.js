import assert from "node:assert/strict";
import { test } from "node:test";

import { Attention } from "../../../media/strophe/src/attention.js";

/** A window that can be focused and blurred. */
function fakeWindow(focused) {
  return Object.assign(new EventTarget(), { document: { hasFocus: () => focused } });
}

function watch(focused) {
  const window = fakeWindow(focused);
  const end = new AbortController();
  return { window, end, attention: new Attention(window, end.signal) };
}

test("the focus starts as the window's and follows it", () => {
  assert.equal(watch(true).attention.focus, true);
  const { window, attention } = watch(false);
  assert.equal(attention.focus, false);
  window.dispatchEvent(new Event("focus"));
  assert.equal(attention.focus, true);
  window.dispatchEvent(new Event("blur"));
  assert.equal(attention.focus, false);
});

test("items count while nobody looks, before the callback sees them", () => {
  const { attention } = watch(false);
  const seen = [];
  attention.item(() => seen.push(attention.unread));
  attention.item(() => seen.push(attention.unread));
  assert.deepEqual(seen, [1, 2]);
});

test("items that arrive in front of the visitor do not count", () => {
  const { attention } = watch(true);
  attention.item(() => {});
  assert.equal(attention.unread, 0);
});

test("the focus resets the count", () => {
  const { window, attention } = watch(false);
  attention.item(() => {});
  window.dispatchEvent(new Event("focus"));
  assert.equal(attention.unread, 0);
});

test("a callback of the original demo, which counts by itself, does not count twice", () => {
  const { attention } = watch(false);
  const titles = [];
  const callback = () => {
    attention.unread++;
    titles.push(attention.unread);
  };
  attention.item(callback);
  attention.item(callback);
  assert.deepEqual(titles, [1, 2]);
  assert.equal(attention.unread, 2);
});

test("the page may set the count", () => {
  const { attention } = watch(false);
  attention.unread = 7;
  attention.unread++;
  assert.equal(attention.unread, 8);
  attention.item(() => (attention.unread = 0));
  assert.equal(attention.unread, 0);
});

test("a callback that fails does not disturb the counting", () => {
  const { attention } = watch(false);
  assert.throws(() => attention.item(() => assert.fail("the page's fault")));
  attention.unread++;
  assert.equal(attention.unread, 2);
});

test("when the client has left, the window is not watched any more", () => {
  const { window, end, attention } = watch(false);
  end.abort();
  window.dispatchEvent(new Event("focus"));
  assert.equal(attention.focus, false);
});

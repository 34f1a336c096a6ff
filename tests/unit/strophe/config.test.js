import assert from "node:assert/strict";
import { test } from "node:test";

import {
  isConfidential,
  isWebSocket,
  pageConfig,
  resolveConfig,
  transportUrls,
} from "../../../media/strophe/src/config.js";
import { pageWithConfig } from "./dom.js";

const BASE = "https://www.example.org/blog/";
const service = "pubsub.example.org";
const urls = (config, how) => transportUrls({ service, ...config }, BASE, how).map(({ href }) => href);
const url = (config, how) => urls(config, how)[0];

test("a page without a configuration has an empty one", () => {
  assert.deepEqual(pageConfig(pageWithConfig()), {});
});

test("the page's configuration is read as JSON", () => {
  assert.deepEqual(pageConfig(pageWithConfig(`{"service": "${service}"}`)), { service });
});

test("a configuration that is no JSON is quoted in the error", () => {
  assert.throws(() => pageConfig(pageWithConfig("{service: 1}")), /not JSON.*\{service: 1\}/);
});

test("a configuration that is no object is quoted in the error", () => {
  for (const text of ["null", "[1]", '"x"']) {
    assert.throws(() => pageConfig(pageWithConfig(text)), /must be a JSON object/);
  }
});

test("an option overrides what the page says, and nothing else of it", () => {
  const page = { service, boshUrl: "/bosh", guestDomain: "guests.example.org" };
  assert.deepEqual(resolveConfig(page, { boshUrl: "/other", nick: "me" }), {
    service,
    boshUrl: "/other",
    guestDomain: "guests.example.org",
    nodes: {},
  });
});

test("an empty value counts as missing", () => {
  const config = resolveConfig({ service, websocketUrl: null }, { service: "" });
  assert.deepEqual(config, { service, nodes: {} });
});

test("what the page says of nodes is kept", () => {
  const nodes = { "/n": { max: 10, log: true } };
  assert.deepEqual(resolveConfig({ service, nodes }, {}).nodes, nodes);
});

test("the service's address is compared in lower case, as the server writes it", () => {
  assert.equal(resolveConfig({ service: "PubSub.Example.org" }, {}).service, service);
});

test("without a service the error says what to put on the page", () => {
  assert.throws(() => resolveConfig({}, {}), /needs "service".*pubsub_client/);
});

test("a value that is no text is quoted in the error", () => {
  assert.throws(() => resolveConfig({ service: 5 }, {}), /service must be a string, not 5/);
});

test("the WebSocket is preferred to BOSH, at the page's host and with its security", () => {
  assert.deepEqual(urls({ websocketUrl: "/ws", boshUrl: "/http-bind" }), [
    "wss://www.example.org/ws",
    "https://www.example.org/http-bind",
  ]);
  const [plain] = transportUrls({ service, websocketUrl: "/ws" }, "http://localhost:8080/");
  assert.equal(plain.href, "ws://localhost:8080/ws");
});

test("BOSH is used where there is no WebSocket", () => {
  assert.equal(url({ boshUrl: "/http-bind" }), "https://www.example.org/http-bind");
});

test("the scheme of url chooses the transport", () => {
  const both = { websocketUrl: "/ws", boshUrl: "/http-bind" };
  assert.deepEqual(urls({ ...both, url: "ws://127.0.0.1:5280/ws" }), ["ws://127.0.0.1:5280/ws"]);
  assert.deepEqual(urls({ ...both, url: "/bosh" }), ["https://www.example.org/bosh"]);
  assert.ok(isWebSocket(new URL("wss://example.org/")));
  assert.ok(!isWebSocket(new URL("https://example.org/")));
});

test("a session that is attached to goes on over BOSH", () => {
  const both = { websocketUrl: "/ws", boshUrl: "/http-bind" };
  assert.deepEqual(urls(both, { boshOnly: true }), ["https://www.example.org/http-bind"]);
  assert.throws(() => url({ url: "wss://x/ws" }, { boshOnly: true }), /BOSH address.*wss:\/\/x/);
  assert.throws(() => url({ websocketUrl: "/ws" }, { boshOnly: true }), /needs "boshUrl"/);
});

test("an address that is none is quoted in the error", () => {
  assert.throws(() => url({ url: "http://" }), /url is not an address: "http:\/\/"/);
  assert.throws(() => url({ url: "javascript:alert(1)" }), /http\(s\) or ws\(s\).*javascript/);
  assert.throws(() => url({ boshUrl: "wss://x/ws" }), /boshUrl must be an http/);
  assert.throws(() => url({}), /"websocketUrl" or "boshUrl"/);
});

test("secrets may travel over TLS, or on the machine itself", () => {
  for (const good of ["https://a.b/", "wss://a.b/ws", "http://localhost:1/", "ws://127.0.0.1/", "http://[::1]/"]) {
    assert.ok(isConfidential(new URL(good)), good);
  }
  for (const bad of ["http://a.b/", "ws://10.0.0.1/", "http://localhost.evil.org/", "ws://127.0.0.1.evil.org/"]) {
    assert.ok(!isConfidential(new URL(bad)), bad);
  }
});

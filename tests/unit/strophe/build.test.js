import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import vm from "node:vm";
import { gzipSync } from "node:zlib";

import { slimStrophe, STAND_INS } from "../../../media/strophe/strophe.js";
import { bundled } from "./bundle.js";
import { element } from "./dom.js";

const require = createRequire(new URL("../../../media/strophe/package.json", import.meta.url));
const ts = require("typescript");

const BUILD = fileURLToPath(new URL("../../../media/strophe/build.js", import.meta.url));

let folder;
const built = (name) => join(folder, name);

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "client-"));
  await promisify(execFile)(process.execPath, [BUILD, folder]);
});

after(() => rm(folder, { recursive: true }));

test("the classic script defines PubSubClient and nothing else", async () => {
  const page = { EventTarget, window: {} };
  const given = Object.keys(page);
  vm.runInNewContext(await readFile(built("pubsub.client.js"), "utf8"), page);
  assert.deepEqual(Object.keys(page), given);
  assert.deepEqual(Object.keys(page.window), ["PubSubClient"]);
});

test("the worker's script waits for tabs, once", async () => {
  const worker = { addEventListener: () => assert.fail("Strophe's own way to wait") };
  const given = Object.keys(worker);
  vm.runInNewContext(await readFile(built("pubsub.worker.js"), "utf8"), worker);
  assert.deepEqual(Object.keys(worker), [...given, "onconnect"]);
});

test("both scripts know the worker of their build", async () => {
  const worker = await readFile(built("pubsub.worker.js"));
  const hash = createHash("sha256").update(worker).digest("hex").slice(0, 8);
  for (const name of ["pubsub.client.js", "pubsub.client.mjs"]) {
    assert.ok((await readFile(built(name), "utf8")).includes(hash), name);
  }
});

test("the ES module exports the client and its errors", async () => {
  const module = await import(built("pubsub.client.mjs"));
  assert.deepEqual(Object.keys(module).sort(), ["PubSubClient", "PubSubError"]);
});

test("the classic script, Strophe included, is at most 28 KiB, gzipped", async () => {
  const script = await readFile(built("pubsub.client.js"));
  assert.ok(gzipSync(script, { level: 9 }).length <= 28 * 1024);
});

test("the scripts say whose work they are, and where their sources are", async () => {
  for (const name of ["pubsub.client.js", "pubsub.client.mjs", "pubsub.worker.js"]) {
    const script = await readFile(built(name), "utf8");
    assert.match(script, /^\/\*! django-pubsub's client, with Strophe\.js 5\.0\.0\. MIT; see LICENSES/);
    assert.match(script, new RegExp(`\\n//# sourceMappingURL=${name}\\.map\\n$`));
    JSON.parse(await readFile(built(`${name}.map`), "utf8"));
  }
  const licences = await readFile(built("LICENSES.txt"), "utf8");
  assert.match(licences, /^django-pubsub\n[^]*\nStrophe\.js 5\.0\.0\n/);
});

test("programs in TypeScript get types that hold without those of Strophe", () => {
  const options = {
    strict: true,
    noEmit: true,
    skipLibCheck: false,
    skipDefaultLibCheck: true, // TypeScript's own, which take their time
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    types: [],
  };
  const sources = {
    [built("module.ts")]: `
      import { PubSubClient, PubSubError, type Item, type Subscription } from "./pubsub.client.mjs";
      const client = new PubSubClient({ nick: "Ada", excludeSelf: true });
      const subscription: Subscription = client.subscribe("/blog/Post", {
        onItem(item: Item) { item.id.toUpperCase(); },
        onRetract(id) { id.toUpperCase(); },
        onError(error: PubSubError) { error.condition.toUpperCase(); },
      });
      new PubSubClient({ jid: "5@users.example.org", password: "token" });
      new PubSubClient({ credentials: (refused) => ({ nick: refused.toFixed() }) });
      new PubSubClient({ credentialsUrl: "/in/", authorize: async (node) => node.endsWith("/5") });
      const gone: Promise<void> = subscription.unsubscribe();
      const ids: Promise<string[]> = client.publish("/blog/Post", { text: "Hello" });
      // @ts-expect-error  a node's name is a text
      client.subscribe(1);
      export { gone, ids };`,
    [built("classic.ts")]: `
      /// <reference path="./pubsub.client.d.ts" />
      const client: PubSubClient = new PubSubClient({ nick: "Ada", node: ["/a", "/b"] });
      client.unread.toFixed();`,
  };
  const host = ts.createCompilerHost(options);
  const { readFile: read, fileExists: exists } = host;
  host.readFile = (name) => sources[name] ?? read(name);
  host.fileExists = (name) => name in sources || exists(name);
  const program = ts.createProgram(Object.keys(sources), options, host);
  const problems = ts.getPreEmitDiagnostics(program);
  assert.equal(ts.formatDiagnostics(problems, host), "");
});

test("the types tell of no private member, and need no others", async () => {
  for (const name of await readdir(built("types"))) {
    const text = await readFile(built(`types/${name}`), "utf8");
    assert.doesNotMatch(text, /^ *(#|private )/m, name);
    for (const [, needed] of text.matchAll(/(?:from |import\()"([^"]*)"/g)) {
      assert.match(needed, /^\.\/\w+\.js$/, name);
    }
  }
});

test("a stand-in for a module that Strophe does not have stops the build", async () => {
  const plugins = [slimStrophe({ ...STAND_INS, "sasl-gone.ts": "left-out" })];
  await assert.rejects(bundled("", { plugins }), /Strophe 5\.0\.0 has no module sasl-gone\.ts/);
});

test("a source that uses of Strophe what the stand-in for its index lacks stops the build", async () => {
  const plugins = [slimStrophe({ ...STAND_INS, "index.ts": "left-out" })];
  await assert.rejects(bundled(`import "./sasl.js";`, { plugins }), /uses Strophe\.SASLPlain, which/);
});

test("a part that is left out says so when it is called", async () => {
  const { Strophe } = await bundled(`export { Strophe } from "strophe.js";`);
  const options = { enableStreamManagement: true };
  assert.throws(() => new Strophe.Connection("wss://example.org/", options), /is left out/);
});

test("Strophe's helpers say what Strophe's own say", async () => {
  const source = `export { default as utils } from "strophe.js/src/utils";
    export { xmlescape, getNodeFromJid, getDomainFromJid, getResourceFromJid, getBareJidFromJid,
      toElement, isTagEqual, getNamespace, getText } from "strophe.js/src/utils";`;
  const table = { ...STAND_INS };
  delete table["utils.ts"];
  const [ours, theirs] = [await bundled(source), await bundled(source, { plugins: [slimStrophe(table)] })];
  const same = (name, ...given) => assert.deepEqual(ours[name](...given), theirs[name](...given), name);
  for (const jid of ["a@b/c", "a@b", "b/c", "b", "a@b/c@d/e", "a@b/c/d", "a\\40x@b/é\n"]) {
    same("getNodeFromJid", jid);
    same("getDomainFromJid", jid);
    same("getResourceFromJid", jid);
    same("getBareJidFromJid", jid);
  }
  same("xmlescape", `<a b='c' d="e">&amp;</a>`);
  const node = element(`<a xmlns="x">b<c>d</c></a>`);
  same("isTagEqual", node, "a");
  same("getNamespace", node);
  same("getText", node.firstChild.nextSibling);
  const buffer = (...values) => Uint8Array.from(values).buffer;
  const { utils } = ours;
  assert.deepEqual(utils.xorArrayBuffers(buffer(1, 2, 255), buffer(3, 2, 1)), buffer(2, 0, 254));
  assert.equal(utils.arrayBufToBase64(buffer(0, 128, 255)), theirs.utils.arrayBufToBase64(buffer(0, 128, 255)));
  assert.deepEqual(utils.base64ToArrayBuf("AID/"), buffer(0, 128, 255));
  assert.deepEqual(utils.stringToArrayBuf("é"), theirs.utils.stringToArrayBuf("é"));
  assert.equal(utils.utf16to8("aé漢\0"), theirs.utils.utf16to8("aé漢\0"));
});

test("stanzas are built and written as Strophe builds and writes them", async () => {
  const { $build, $iq, Builder } = await bundled(
    `export { default as Builder, $build, $iq } from "strophe.js/src/builder";`,
  );
  const createDocument = () => element("<strophe xmlns='jabber:client'/>").ownerDocument;
  globalThis.document = { implementation: { createDocument } };
  try {
    const query = $iq({ type: "get", to: null }).c("query", { xmlns: "q" });
    query.c("a").t(`<&>"'`).up().c("b").up().cnode(element("<c x='&amp;'>d</c>")).up();
    const attrs = query.attrs({ n: 1 });
    assert.equal(
      Builder.serialize(attrs.tree()),
      `<iq xmlns="jabber:client" type="get"><query xmlns="q" n="1">` +
        `<a>&lt;&amp;&gt;&quot;&apos;</a><b/><c x="&amp;">d</c></query></iq>`,
    );
    assert.equal(Builder.serialize($build("close", { xmlns: "f" })), `<close xmlns="f"/>`);
  } finally {
    delete globalThis.document;
  }
});

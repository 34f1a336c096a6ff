import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { test } from "node:test";

const SOURCES = new URL("../../../media/strophe/src/", import.meta.url);

/** From the front door down, as CONTRIBUTING.rst draws them: a module imports what stands after it. */
const FLOORS = [
  ["global", "index"],
  ["client"],
  ["attention", "binding", "rows", "order", "collection", "origin", "requests"],
  ["feed", "catchup", "knowledge", "repeats", "subscription"],
  ["connection", "transports", "interests", "credentials", "site", "backoff"],
  ["session", "pending", "sharing", "sasl", "intake"],
  ["config", "stanzas", "payloads", "xml", "errors", "digest", "pace", "report"],
  ["worker"], // a house of its own
];
const ORDER = FLOORS.flat();

async function sources() {
  const names = (await readdir(SOURCES)).filter((name) => name.endsWith(".js"));
  const read = async (name) => [name.slice(0, -3), await readFile(new URL(name, SOURCES), "utf8")];
  return Promise.all(names.map(read));
}

/** What a source imports or takes types from. */
const imported = (text) => [...text.matchAll(/["']\.\/(\w+)\.js["']/g)].map(([, name]) => name);
const isType = (text, name) => !new RegExp(`^import .*"\\./${name}\\.js"`, "m").test(text);

test("each module of the client has its place", async () => {
  const names = (await sources()).map(([name]) => name);
  assert.deepEqual(names.sort(), [...ORDER].sort());
});

test("imports go down only, but for types", async () => {
  for (const [name, text] of await sources()) {
    for (const other of imported(text).filter((found) => !isType(text, found))) {
      assert.ok(ORDER.indexOf(other) > ORDER.indexOf(name), `${name} imports ${other}`);
    }
  }
});

test("only session, sharing, sasl and the worker know Strophe", async () => {
  const knowing = (await sources()).filter(([, text]) => /from "strophe\.js/.test(text));
  assert.deepEqual(knowing.map(([name]) => name).sort(), ["sasl", "session", "sharing", "worker"]);
});

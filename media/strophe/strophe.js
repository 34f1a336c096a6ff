// Which of Strophe's modules go into the bundles, and what stands in for the others.

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, relative } from "node:path";
import { fileURLToPath } from "node:url";

const SOURCES = fileURLToPath(new URL("node_modules/strophe.js/src/", import.meta.url));
const OWN = fileURLToPath(new URL("src/", import.meta.url));
const standIn = (name) => fileURLToPath(new URL(`standins/${name}.js`, import.meta.url));

/** The table was written for this one: read Strophe's changes before raising it. */
const WRITTEN_FOR = "5.0.0";

/**
 * The table: a module of Strophe, and what stands in for it (a file of standins/).
 *
 * Sessions log in by SCRAM or PLAIN, over WebSocket, BOSH or the shared worker, without XEP-0198.
 */
export const STAND_INS = {
  "index.ts": "index",
  "builder.ts": "builder",
  "log.ts": "log",
  "utils.ts": "utils",
  "sasl-anon.ts": "left-out",
  "sasl-external.ts": "left-out",
  "sasl-oauthbearer.ts": "left-out",
  "sasl-xoauth2.ts": "left-out",
  "stream-management/index.ts": "left-out", // of the page
  "stream-management/engine.ts": "left-out", // of the worker
};

/** The installed version. @returns {Promise<string>} */
export async function stropheVersion() {
  return JSON.parse(await readFile(`${SOURCES}../package.json`, "utf8")).version;
}

/**
 * Strophe's private names may become short ones, but for those by which a page and the worker call
 * each other's methods: the two are bundled apart.
 * @returns {Promise<import("esbuild").BuildOptions>}
 */
export async function shortNames() {
  const talkers = ["shared-connection-worker.ts", "transports/worker-websocket.ts"];
  const texts = await Promise.all(talkers.map((name) => readFile(SOURCES + name, "utf8")));
  const spoken = texts.flatMap((text) => text.match(/(?<=')_\w+(?=')/g) ?? []);
  return { mangleProps: /^_./, reserveProps: new RegExp(`^(${[...new Set(spoken)].join("|")})$`) };
}

/**
 * An esbuild plugin: `import … from "strophe.js"` means Strophe's sources, by the table.
 * @param {Record<string, string>} [table]
 */
export function slimStrophe(table = STAND_INS) {
  return {
    name: "slim-strophe",
    /** @param {import("esbuild").PluginBuild} build */
    async setup(build) {
      await check(table);
      // As Strophe's own build has it: a class that only declares a field must not clear it.
      build.initialOptions.tsconfigRaw = { compilerOptions: { useDefineForClassFields: false } };
      build.onResolve({ filter: /^strophe\.js(\/|$)/ }, ({ path, kind }) =>
        build.resolve(`./${path.replace(/^strophe\.js(\/src\/)?/, "") || "index"}`, {
          kind,
          resolveDir: SOURCES,
        }),
      );
      build.onLoad({ filter: /\.ts$/ }, async ({ path }) => {
        if (!path.startsWith(SOURCES)) {
          return undefined;
        }
        const name = table[relative(SOURCES, path)];
        return name
          ? { contents: await readFile(standIn(name), "utf8"), loader: "js", resolveDir: dirname(path) }
          : { contents: dropLog(await readFile(path, "utf8")), loader: "ts" };
      });
      build.onLoad({ filter: /\.js$/ }, async ({ path }) => {
        if (path.startsWith(OWN)) {
          await checkNames(path, table);
        }
        return undefined;
      });
    },
  };
}

// Private

/** @param {Record<string, string>} table */
async function check(table) {
  const version = await stropheVersion();
  if (version !== WRITTEN_FOR) {
    throw new Error(`The stand-ins were written for Strophe ${WRITTEN_FOR}, not ${version}`);
  }
  const missing = Object.keys(table).filter((name) => !existsSync(SOURCES + name));
  if (missing.length) {
    throw new Error(`Strophe ${version} has no module ${missing.join(", ")} to put a stand-in for`);
  }
}

/**
 * What the types promise and the stand-in for the index lacks would be undefined in the browser.
 * @param {string} path
 * @param {Record<string, string>} table
 */
async function checkNames(path, table) {
  const index = await readFile(standIn(table["index.ts"]), "utf8");
  const source = await readFile(path, "utf8");
  for (const [, name] of source.matchAll(/\bStrophe\.(\w+)/g)) {
    if (!new RegExp(`^  ${name}\\b`, "m").test(index)) {
      throw new Error(`${path} uses Strophe.${name}, which standins/index.js lacks`);
    }
  }
}

/**
 * As functions of a module, not methods of an object, empty ones are found to be empty.
 * @param {string} source
 */
function dropLog(source) {
  return source.replace(/^import log from/m, "import * as log from");
}

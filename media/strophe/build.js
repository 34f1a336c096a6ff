// Bundles the client and Strophe: a classic script and an ES module, each in one file, the script of
// the worker that tabs share, types, and the licences of what is inside.
// `node build.js [FOLDER]`: by default dist/, emptied before.

import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

import { shortNames, slimStrophe, stropheVersion } from "./strophe.js";
import { writeTypes } from "./types.js";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const dist = here("dist");
const folder = resolve(process.argv[2] ?? dist);
const version = await stropheVersion();

/**
 * Makes one script, and tells how large it is.
 * @param {string} name
 * @param {import("esbuild").BuildOptions} options
 */
async function bundle(name, options) {
  const outfile = join(folder, name);
  const { warnings } = await build({
    absWorkingDir: here("."),
    bundle: true,
    minify: true,
    platform: "browser",
    target: "es2022",
    sourcemap: true,
    legalComments: "inline",
    plugins: [slimStrophe()],
    banner: {
      js: `/*! django-pubsub's client, with Strophe.js ${version}. MIT; see LICENSES.txt */`,
    },
    logLevel: "warning",
    outfile,
    ...options,
  });
  if (warnings.length) {
    throw new Error(`${name} was made with warnings`);
  }
  const script = await readFile(outfile);
  const gzipped = gzipSync(script, { level: 9 }).length;
  console.log(`${name}: ${script.length} bytes, gzipped ${gzipped}`);
  return script;
}

async function writeLicences() {
  const licences = [
    ["django-pubsub", "../../LICENSE"],
    [`Strophe.js ${version}`, "node_modules/strophe.js/LICENSE.txt"],
  ].map(async ([name, path]) => `${name}\n\n${(await readFile(here(path), "utf8")).trim()}\n`);
  const text = (await Promise.all(licences)).join(`\n${"-".repeat(72)}\n\n`);
  await writeFile(join(folder, "LICENSES.txt"), text);
}

if (folder === dist) {
  await rm(dist, { recursive: true, force: true });
}
await mkdir(folder, { recursive: true });
await writeTypes(folder);
await writeLicences();
const worker = await bundle("pubsub.worker.js", {
  entryPoints: ["src/worker.js"],
  format: "iife",
  // Strophe's worker starts itself when this is there; ours has its own way.
  define: { addEventListener: "undefined" },
});
const hash = createHash("sha256").update(worker).digest("hex").slice(0, 8);
const client = { define: { WORKER_BUILD: JSON.stringify(hash) }, ...(await shortNames()) };
await bundle("pubsub.client.js", { ...client, entryPoints: ["src/global.js"], format: "iife" });
await bundle("pubsub.client.mjs", { ...client, entryPoints: ["src/index.js"], format: "esm" });

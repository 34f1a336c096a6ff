// Bundles the client and Strophe into dist/: a classic script and an ES module, each in one file,
// and the licences of what is inside.

import { readFile, rm, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const strophe = JSON.parse(await readFile(here("node_modules/strophe.js/package.json"), "utf8"));

const options = {
  absWorkingDir: here("."),
  bundle: true,
  minify: true,
  platform: "browser",
  target: "es2022",
  sourcemap: true,
  legalComments: "inline",
  // Strophe defines seven globals; the page's own Strophe, if it has one, must not be replaced.
  inject: ["no-globals.js"],
  banner: {
    js: `/*! django-pubsub's client, with Strophe.js ${strophe.version}. MIT; see LICENSES.txt */`,
  },
  logLevel: "info",
};

await rm(here("dist"), { recursive: true, force: true });
await build({
  ...options,
  entryPoints: ["src/global.js"],
  format: "iife",
  outfile: "dist/pubsub.client.js",
});
await build({
  ...options,
  entryPoints: ["src/index.js"],
  format: "esm",
  outfile: "dist/pubsub.client.mjs",
});

const licences = [
  ["django-pubsub", "../../LICENSE"],
  [`Strophe.js ${strophe.version}`, "node_modules/strophe.js/LICENSE.txt"],
].map(async ([name, path]) => `${name}\n\n${(await readFile(here(path), "utf8")).trim()}\n`);
await writeFile(here("dist/LICENSES.txt"), (await Promise.all(licences)).join(`\n${"-".repeat(72)}\n\n`));

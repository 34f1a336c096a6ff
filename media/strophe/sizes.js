// Tells what the built scripts weigh, and Strophe alone, made as it is inside them: as JSON, bytes
// minified and gzipped.  For `python -m bench`.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

import { slimStrophe } from "./strophe.js";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** @param {Uint8Array} script */
const weigh = (script) => ({ plain: script.length, gzipped: gzipSync(script, { level: 9 }).length });

const strophe = await build({
  stdin: {
    contents: 'import { Strophe } from "strophe.js"; globalThis.Strophe = Strophe;',
    resolveDir: here("."),
  },
  bundle: true,
  minify: true,
  platform: "browser",
  target: "es2022",
  format: "iife",
  write: false,
  plugins: [slimStrophe()],
});
const sizes = {
  client: weigh(await readFile(here("dist/pubsub.client.js"))),
  worker: weigh(await readFile(here("dist/pubsub.worker.js"))),
  strophe: weigh(strophe.outputFiles[0].contents),
};
console.log(JSON.stringify(sizes));

// Tells what the built scripts weigh, and Strophe alone, as published and as it is inside them: as
// JSON, bytes minified and gzipped.  For `python -m bench`.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

import { shortNames, slimStrophe } from "./strophe.js";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** @param {Uint8Array} script */
const weigh = (script) => ({ plain: script.length, gzipped: gzipSync(script, { level: 9 }).length });

/**
 * Strophe, for a page that needs nothing else.
 * @param {import("esbuild").BuildOptions} options
 */
async function strophe(options) {
  const { outputFiles } = await build({
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
    ...options,
  });
  return weigh(outputFiles[0].contents);
}

const sizes = {
  client: weigh(await readFile(here("dist/pubsub.client.js"))),
  worker: weigh(await readFile(here("dist/pubsub.worker.js"))),
  published: await strophe({}),
  strophe: await strophe({ plugins: [slimStrophe()], ...(await shortNames()) }),
};
console.log(JSON.stringify(sizes));

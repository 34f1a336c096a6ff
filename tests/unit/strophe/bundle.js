// Sources of the client that import Strophe, as the build bundles them, for tests without a browser.

import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { slimStrophe } from "../../../media/strophe/strophe.js";

const require = createRequire(new URL("../../../media/strophe/package.json", import.meta.url));
const { build } = require("esbuild");

/**
 * What a module exports that is given by its text; its imports are resolved as those of src/.
 * @param {string} text
 * @param {object} [options]  more for esbuild
 */
export async function bundled(text, options = {}) {
  const folder = await mkdtemp(join(tmpdir(), "bundle-"));
  const outfile = join(folder, "bundle.mjs");
  const resolveDir = fileURLToPath(new URL("../../../media/strophe/src", import.meta.url));
  try {
    await build({
      bundle: true,
      format: "esm",
      logLevel: "silent",
      plugins: [slimStrophe()],
      stdin: { contents: text, resolveDir },
      outfile,
      ...options,
    });
    return await import(pathToFileURL(outfile));
  } finally {
    await rm(folder, { recursive: true });
  }
}

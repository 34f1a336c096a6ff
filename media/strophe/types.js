// The types of the client's public face, as tsc reads them from the JSDoc of its sources.

import { mkdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

import ts from "typescript";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const MODULE = `export * from "./types/index.js";
export type { Handlers, Item, Options } from "./types/client.js";
export type { Subscription } from "./types/subscription.js";
`;
const CLASSIC = `import { PubSubClient as Client } from "./types/index.js";

declare global {
  /** What the classic script defines. */
  var PubSubClient: typeof Client;
  type PubSubClient = Client;
}
`;

/**
 * Writes pubsub.client.d.mts, for the ES module, pubsub.client.d.ts, for the classic script, and
 * the folder types/ that both read.
 * @param {string} folder
 */
export async function writeTypes(folder) {
  const declarations = declare("index");
  await mkdir(join(folder, "types"), { recursive: true });
  const files = [
    ["pubsub.client.d.mts", MODULE],
    ["pubsub.client.d.ts", CLASSIC],
    ...[...declarations].map(([name, text]) => [`types/${name}.d.ts`, text]),
  ];
  await Promise.all(files.map(([name, text]) => writeFile(join(folder, name), text)));
}

// Private

/**
 * The declarations that a source's own ones need, by the sources' names; itself the first.
 * @param {string} entry
 */
function declare(entry) {
  const { config } = ts.readConfigFile(here("tsconfig.json"), ts.sys.readFile);
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, here("."));
  const program = ts.createProgram([here(`src/${entry}.js`)], {
    ...options,
    noEmit: false,
    declaration: true,
    emitDeclarationOnly: true,
  });
  /** @type {Map<string, string>} */
  const declarations = new Map();
  const wanted = [entry];
  for (const name of wanted) {
    const text = emit(program, here(`src/${name}.js`));
    declarations.set(name, text);
    for (const [, file] of text.matchAll(/["'](\.[^"']*)\.js["']/g)) {
      const needed = basename(file);
      wanted.includes(needed) || wanted.push(needed);
    }
  }
  return declarations;
}

/**
 * @param {ts.Program} program
 * @param {string} path
 */
function emit(program, path) {
  const source = program.getSourceFile(path);
  const problems = program.getDeclarationDiagnostics(source);
  if (problems.length) {
    throw new Error(ts.formatDiagnostics(problems, ts.createCompilerHost({})));
  }
  let text = "";
  program.emit(source, (_name, data) => (text = data));
  // The mark of a class with private members would refuse whatever stands in for it in a test.
  return text.replace(/^ *#private;\n/gm, "");
}

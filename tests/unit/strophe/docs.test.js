import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import vm from "node:vm";

const PAGES = ["README.rst", "docs/browser.rst"];

for (const page of PAGES) {
  test(`the scripts in ${page} may stand in a page as they are`, async () => {
    const text = await readFile(new URL(`../../../${page}`, import.meta.url), "utf8");
    const blocks = [...text.matchAll(/\.\. code-block:: javascript\n\n((?: {4}.*\n|\n)+)/g)];
    assert.ok(blocks.length);
    for (const [, block] of blocks) {
      assert.doesNotThrow(() => new vm.Script(block), block);
    }
  });
}

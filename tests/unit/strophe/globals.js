// What a browser has and Node has not, for the time of a test.

/**
 * @param {import("node:test").TestContext} t  puts back what was there, when it ends
 * @param {Record<string, unknown>} globals
 */
export function setGlobals(t, globals) {
  for (const [name, value] of Object.entries(globals)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    t.after(() => {
      delete globalThis[name];
      before && Object.defineProperty(globalThis, name, before);
    });
  }
}

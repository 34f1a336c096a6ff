// The Web Locks of a browser, for tests on a Node that has none (before 24).

/** One browser's. A request stands in its name's queue until its callback is done. */
class Locks {
  #queues = new Map();

  async request(name, ...rest) {
    const callback = rest.pop();
    const { mode = "exclusive", ifAvailable = false } = rest[0] ?? {};
    const queue = this.#queues.get(name) ?? [];
    this.#queues.set(name, queue);
    const entry = { mode };
    const granted = new Promise((resolve) => (entry.grant = resolve));
    queue.push(entry);
    if (ifAvailable && !grantable(queue, entry)) {
      queue.pop();
      return callback(null);
    }
    grant(queue);
    await granted;
    try {
      return await callback({ name, mode });
    } finally {
      queue.splice(queue.indexOf(entry), 1);
      grant(queue);
    }
  }
}

/** Whether all that stand before it let it in. */
function grantable(queue, entry) {
  const before = queue.slice(0, queue.indexOf(entry));
  return entry.mode === "shared" ? before.every(({ mode }) => mode === "shared") : !before.length;
}

function grant(queue) {
  queue.filter((entry) => grantable(queue, entry)).forEach((entry) => entry.grant());
}

/** Gives the tests a `navigator.locks`, the real one where there is one. */
export function installLocks() {
  if (!globalThis.navigator?.locks) {
    Object.defineProperty(globalThis, "navigator", { value: { locks: new Locks() }, configurable: true });
  }
}

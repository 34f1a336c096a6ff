// What the tabs that share a stream listen to.

/**
 * Which nodes are listened to by any tab of one shared stream, which is subscribed to them once.
 *
 * A tab that listens holds the node's Web Lock in shared mode. Who can have it alone is the last,
 * and while he unsubscribes nobody else begins. Steps for one node follow each other.
 */
export class Interests {
  #scope;
  /** @type {Map<string, () => Promise<unknown>>} what gives up the lock of a node */
  #held = new Map();
  /** @type {Map<string, Promise<void>>} the last step of a node, while there is one */
  #last = new Map();

  /** @param {string} scope  of the shared stream */
  constructor(scope) {
    this.#scope = scope;
  }

  /**
   * Resolves when this tab counts as one that listens; only then it may subscribe.
   * @param {string} node
   */
  hold(node) {
    return this.#then(node, () => this.#acquire(node));
  }

  /**
   * This tab listens no longer, if it did.
   * @param {string} node
   * @param {() => Promise<unknown>} ifLast  called if no other tab does
   */
  release(node, ifLast) {
    return this.#then(node, async () => {
      await this.#giveUp(node);
      const alone = { ifAvailable: true };
      await navigator.locks.request(this.#name(node), alone, (lock) => lock && ifLast());
    });
  }

  /** This tab goes: it listens to nothing, and unsubscribes from nothing. */
  releaseAll() {
    for (const node of new Set([...this.#held.keys(), ...this.#last.keys()])) {
      this.#then(node, () => this.#giveUp(node));
    }
  }

  // Private

  /** @param {string} node */
  #name(node) {
    return `pubsub ${this.#scope} ${node}`;
  }

  /**
   * @param {string} node
   * @param {() => Promise<void>} step
   */
  #then(node, step) {
    const done = (this.#last.get(node) ?? Promise.resolve()).then(step);
    const settled = done
      .catch(() => {}) // whoever asked for it hears of it
      .then(() => {
        if (this.#last.get(node) === settled) {
          this.#last.delete(node);
        }
      });
    this.#last.set(node, settled);
    return done;
  }

  /** @param {string} node @returns {Promise<void>} */
  async #acquire(node) {
    if (this.#held.has(node)) {
      return;
    }
    await new Promise((resolve, reject) => {
      const released = navigator.locks.request(this.#name(node), { mode: "shared" }, () => {
        resolve(undefined);
        return new Promise((letGo) => {
          this.#held.set(node, () => {
            letGo(undefined);
            return released;
          });
        });
      });
      released.catch(reject);
    });
  }

  /** @param {string} node */
  async #giveUp(node) {
    const letGo = this.#held.get(node);
    this.#held.delete(node);
    await letGo?.();
  }
}

import { backoff } from "./backoff.js";
import { missed } from "./catchup.js";
import { PubSubError } from "./errors.js";
import { Knowledge } from "./knowledge.js";
import { pace } from "./pace.js";
import { NEWS, STALE } from "./repeats.js";
import { isolated, report } from "./report.js";
import { subscribe, unsubscribe } from "./stanzas.js";
import { Subscription } from "./subscription.js";

/** @typedef {import("./connection.js").Connection} Connection */
/** @typedef {import("./stanzas.js").Item} Item */
/** @typedef {import("./stanzas.js").Notification} Notification */
/** @typedef {import("./subscription.js").Handlers} Handlers */

/**
 * @typedef {object} Hooks
 * @property {(feed: Feed, notification: Notification, moment: number) => void} onNews  has to
 *   `notify()` those who came at that moment or later
 * @property {() => void} onChange  `isCatchingUp` has changed
 * @property {() => void} onLocked  the node is private, and we do not belong to it any more
 * @property {(node: string) => Promise<boolean> | boolean} [authorize]  asked to let an account in
 * @property {(feed: Feed) => void} onEnd  the last listener has gone; the feed is not used again
 */

/**
 * One node on the server: the one subscription there that all of the page's listeners share.
 *
 * On each connection it catches up: it subscribes, holds back what comes, finds out what was missed,
 * tells that, and lets go of what it held. A refusal that may pass (the node is not there yet, the
 * server is busy) is tried again.
 */
export class Feed {
  #connection;
  #service;
  #hooks;
  #knowledge;
  /** @type {Set<Subscription>} */
  #listeners = new Set();
  /** @type {Notification[] | null} the events that have come during the catch-up */
  #held = null;
  /** @type {import("./stanzas.js").LastNotification | undefined} */
  #last;
  /** Whether something may have been missed since the last catch-up. */
  #gap = true;
  #round = 0;
  #attempt = 0;
  #refused = "";
  /** Whether the server has let us in, and what was read has to go if it does so no more. */
  #inside = false;
  /** Whether it does not let us in, as things are. */
  #barred = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;

  /**
   * @param {string} node
   * @param {string} service
   * @param {Connection} connection
   * @param {Hooks} hooks
   * @param {import("./knowledge.js").Rendered} [rendered]
   */
  constructor(node, service, connection, hooks, rendered) {
    this.node = node;
    this.#service = service;
    this.#connection = connection;
    this.#hooks = hooks;
    this.#knowledge = new Knowledge(rendered);
    /** Whether something may be missing. */
    this.isCatchingUp = false;
  }

  /**
   * Whether these very handlers are among those of the listeners who came at a moment or later.
   * @param {Handlers} handlers
   * @param {number} moment
   */
  hears(handlers, moment) {
    return [...this.#listeners].some(
      (listener) => listener.handlers === handlers && listener.since >= moment,
    );
  }

  /**
   * @param {Handlers} handlers
   * @param {boolean} [excludeSelf]
   */
  add(handlers, excludeSelf = false) {
    const subscription = new Subscription(this, handlers, excludeSelf, this.#knowledge.now);
    this.#listeners.add(subscription);
    if (this.#barred) {
      this.#refused = ""; // who comes now is to hear why, if nothing has changed
    }
    if (this.#barred || this.#listeners.size === 1 || (subscription.isNew && !this.#held)) {
      this.#catchUp();
    }
    return subscription;
  }

  /** @param {Subscription} subscription */
  async remove(subscription) {
    if (this.#listeners.delete(subscription) && !this.#wanted) {
      clearTimeout(this.#retry);
      this.#round++;
      this.#settle(false);
      this.#hooks.onEnd(this);
      await this.leave();
    }
  }

  /** Ends the subscription on the server. */
  async leave() {
    if (this.#connection.state === "online") {
      await leave(this.#connection, this.#service, this.node);
    }
  }

  /** Subscribes on the server and catches up; for each connection anew. */
  renew() {
    this.#attempt = 0;
    this.#refused = "";
    this.#held = null; // it will be found again
    this.#gap = true;
    this.#knowledge.interrupted();
    this.#catchUp();
  }

  /**
   * The server has told something.
   * @param {Notification} notification
   */
  receive(notification) {
    if (notification.kind === "end") {
      this.renew(); // it may be made again, or be open all the same
    } else if (notification.kind === "last") {
      this.#last = notification;
    } else if (this.#held) {
      this.#held.push(notification);
    } else {
      this.#show(notification);
    }
  }

  /**
   * @param {Notification} notification
   * @param {boolean} own  an item that this page's own request has published
   * @param {number} moment  only those are told who came then or later
   */
  notify(notification, own, moment) {
    for (const { handlers, excludeSelf, since } of [...this.#listeners]) {
      if (since < moment) {
        continue;
      }
      if (notification.kind === "retract") {
        isolated(handlers.onRetract, notification.id);
      } else if (notification.kind === "item" && !(own && excludeSelf)) {
        isolated(handlers.onItem, notification.item);
      }
    }
  }

  // Private

  /** Whether anybody listens. */
  get #wanted() {
    return this.#listeners.size > 0;
  }

  /** @returns {import("./catchup.js").Audience} */
  get #audience() {
    const listeners = [...this.#listeners];
    return {
      state: listeners.some(({ wantsState }) => wantsState),
      anew: listeners.some(({ isNew }) => isNew),
    };
  }

  async #catchUp() {
    clearTimeout(this.#retry);
    const round = ++this.#round;
    if (!this.#wanted || this.#connection.state !== "online") {
      return;
    }
    this.#held ??= [];
    this.#barred = false;
    this.#settle(true);
    const ask = (/** @type {import("./stanzas.js").Request} */ request) =>
      this.#connection.request(this.#service, request);
    const enter = () => ask(subscribe(this.node, this.#connection.subscriber));
    let subscribed = false;
    let closed = false;
    try {
      await this.#connection.hold(this.node);
      if (round !== this.#round) {
        return;
      }
      this.#last = undefined;
      await enter().catch(async (error) => {
        closed = isClosed(error);
        await this.#admitted(error);
        closed = false;
        return round === this.#round && enter();
      });
      if (round !== this.#round) {
        return;
      }
      subscribed = this.#inside = true;
      const found = await missed(ask, this.node, this.#last, this.#knowledge, this.#audience);
      if (round === this.#round) {
        this.#attempt = 0;
        this.#refused = "";
        await this.#caughtUp(found);
      }
    } catch (error) {
      if (round === this.#round) {
        await this.#onRefusal(error, subscribed, closed || isClosed(error));
      }
    }
  }

  /**
   * Lets the site let us in. Of guests it knows nothing.
   * @param {unknown} error  with which the server has refused; thrown in other words if it stays so
   */
  async #admitted(error) {
    if (!isClosed(error)) {
      throw error;
    }
    const { isGuest } = this.#connection;
    if (isGuest || !(await this.#hooks.authorize?.(this.node))) {
      const who = isGuest ? "guests" : "this user";
      throw new PubSubError(`The site does not let ${who} read ${this.node}`, /** @type {PubSubError} */ (error));
    }
  }

  /**
   * Tells what was found, which may take long: others have their turn in between.
   * @param {import("./catchup.js").Missed} found
   */
  async #caughtUp({ items, whole, first }) {
    const goesOn = this.#pace();
    const listeners = [...this.#listeners];
    if (!whole && this.#audience.anew) {
      this.#catchUp(); // who came meanwhile needs all of them
      return;
    }
    const state = new Map(items.map((item) => [item.id, item]));
    if (whole) {
      for (const id of this.#knowledge.gone(state)) {
        this.#hooks.onNews(this, { kind: "retract", node: this.node, id }, NEWS);
        if (!(await goesOn())) {
          return;
        }
      }
    }
    let isNew = false;
    for (const item of items) {
      isNew ||= item.id === first;
      if (this.#knowledge.found(item, isNew) === NEWS) {
        this.#hooks.onNews(this, { kind: "item", node: this.node, item }, NEWS);
        if (!(await goesOn())) {
          return;
        }
      }
    }
    this.#knowledge.caughtUp(whole, this.#last);
    await this.#release(goesOn, state, () =>
      this.#sync(listeners, whole ? [...state.values()] : undefined),
    );
  }

  /**
   * A function that waits, if there is need to, and tells whether this round is still on then.
   * @returns {() => Promise<boolean>}
   */
  #pace() {
    const round = this.#round;
    const step = pace();
    return async () => {
      await step();
      return round === this.#round && this.#connection.state === "online";
    };
  }

  /**
   * Tells what was held back, and brings the node's state up to it. What comes meanwhile is held
   * back, too.
   * @param {() => Promise<boolean>} goesOn
   * @param {Map<string, Item>} state
   * @param {() => void} last  called when it comes to the end, before anything else can come
   */
  async #release(goesOn, state, last) {
    const held = this.#held ?? [];
    for (let notification; (notification = held.shift()); ) {
      const moment = this.#show(notification);
      if (notification.kind === "item" && moment !== STALE) {
        state.set(notification.item.id, notification.item);
      } else if (notification.kind === "retract") {
        state.delete(notification.id);
      }
      if (!(await goesOn())) {
        return;
      }
    }
    this.#held = null;
    last();
  }

  /**
   * @param {Subscription[]} listeners  who were there before anything was told
   * @param {Item[]} [items]
   */
  #sync(listeners, items) {
    const round = this.#round;
    const all = this.#gap;
    this.#gap = false;
    for (const listener of listeners.filter((one) => all || one.isNew)) {
      if (this.#listeners.has(listener)) {
        listener.sync(items);
      }
    }
    if (round !== this.#round) {
      return; // a callback has begun another one
    }
    this.#audience.anew ? this.#catchUp() : this.#settle(false);
  }

  /** @param {Notification} notification  an event */
  #show(notification) {
    const moment = this.#knowledge.event(notification);
    if (moment !== STALE) {
      this.#hooks.onNews(this, notification, moment);
    }
    return moment;
  }

  /** @param {boolean} busy */
  #settle(busy) {
    if (busy !== this.isCatchingUp) {
      this.isCatchingUp = busy;
      this.#hooks.onChange();
    }
  }

  /**
   * @param {unknown} error
   * @param {boolean} subscribed  whether it was only the items that were refused
   * @param {boolean} closed  whether the node is private, and we do not belong to it
   */
  async #onRefusal(error, subscribed, closed) {
    const refusal = error instanceof PubSubError && error;
    const condition = refusal && refusal.condition;
    if (condition === "disconnected") {
      return; // the next connection renews
    }
    if (subscribed && condition === "feature-not-implemented") {
      // The node keeps no items.
      await this.#release(this.#pace(), new Map(), () => this.#sync([...this.#listeners]));
      return;
    }
    const isMissing = condition === "item-not-found";
    const passing = !refusal || refusal.type === "wait" || isMissing;
    if (!refusal) {
      report(error);
    } else if (refusal.condition !== this.#refused) {
      this.#refused = refusal.condition;
      this.#listeners.forEach(({ handlers }) => this.#complain(refusal, passing, handlers.onError));
    }
    if (passing) {
      this.#retry = setTimeout(() => this.#catchUp(), backoff(this.#attempt++));
    }
    this.#barred = !passing && !subscribed;
    const isOut = closed || (this.#barred && refusal && refusal.type === "auth");
    if (isOut && this.#inside) {
      this.#inside = false;
      this.#held = [];
      this.#last = undefined;
      this.#hooks.onLocked?.();
      await this.#caughtUp({ items: [], whole: true });
    } else if (isMissing) {
      await this.#caughtUp({ items: [], whole: true }); // what the node held has gone with it
    } else if (!passing) {
      await this.#release(this.#pace(), new Map(), () => this.#settle(false));
    }
  }

  /**
   * @param {PubSubError} error
   * @param {boolean} passing
   * @param {Handlers["onError"]} onError
   */
  #complain(error, passing, onError) {
    if (onError) {
      isolated(onError, error);
    } else if (passing) {
      console.warn(`${this.node}: ${error.message}; trying again`);
    } else {
      report(error);
    }
  }
}

/** @param {unknown} error  of a private node, where only members may read (XEP-0060 §6.1.3.4) */
function isClosed(error) {
  return error instanceof PubSubError && error.pubsubCondition === "closed-node";
}

/**
 * Ends our subscription on the server, if there is one and no other tab needs it.
 * @param {Connection} connection
 * @param {string} service
 * @param {string} node
 */
export async function leave(connection, service, node) {
  const request = unsubscribe(node, connection.subscriber);
  const ask = () => connection.request(service, request).then(() => {}, ifStillThere);
  await connection.release(node, ask);
}

/** @param {unknown} error */
function ifStillThere(error) {
  const gone =
    error instanceof PubSubError &&
    (error.pubsubCondition === "not-subscribed" ||
      error.condition === "item-not-found" ||
      error.condition === "disconnected");
  if (!gone) {
    report(error);
  }
}

// The ES module.

export { PubSubClient } from "./client.js";
export { PubSubError } from "./errors.js";

/** @typedef {import("./collection.js").Collection} Collection */

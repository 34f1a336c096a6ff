// Strophe's log, of which we read FATAL only: calls of an empty function are left out of a bundle.

export function setLogLevel() {}
export function log() {}
export function debug() {}
export function info() {}
export function warn() {}
export function error() {}

/** @param {string} message */
export function fatal(message) {
  console.error(message);
}

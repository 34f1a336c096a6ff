// Errors that have nobody to be thrown at: they are shown, and break nothing.

/**
 * Shows an error as an uncaught one is shown, without stopping anything.
 * @param {unknown} error
 */
export function report(error) {
  if (typeof reportError === "function") {
    reportError(error);
  } else {
    console.error(error);
  }
}

/**
 * Calls a function of the page; an exception in it is reported and goes no further.
 * @param {((...args: any[]) => unknown) | undefined} callback
 * @param {...any} args
 */
export function isolated(callback, ...args) {
  try {
    callback?.(...args);
  } catch (error) {
    report(error);
  }
}

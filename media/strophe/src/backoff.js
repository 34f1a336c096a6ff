/**
 * How long to wait before the next try: exponential with full jitter, so that the visitors of a
 * server that comes back do not all come at once.
 *
 * @param {number} attempt  0 for the first retry
 * @param {() => number} [random]  a number in [0, 1)
 * @returns {number} milliseconds, at most 30,000
 */
export function backoff(attempt, random = Math.random) {
  const ceiling = Math.min(30_000, 500 * 2 ** Math.min(attempt, 10));
  return Math.round(random() * ceiling);
}

// Work that takes long gives others their turn in between.

/** How long work goes on without a pause, in milliseconds: a frame of the screen has 16. */
const SLICE = 12;

/** Resolves when what waits for the browser had its turn; in hidden tabs no later than elsewhere. */
export function breath() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel(); // timers wait, in hidden tabs for a minute
    port1.onmessage = () => {
      port1.close();
      resolve(undefined);
    };
    port2.postMessage(0);
  });
}

/**
 * For work that begins now: a function to be asked after each part of it, which returns what to
 * wait for, or nothing as long as there is no need to wait.
 * @returns {() => Promise<void> | undefined}
 */
export function pace() {
  let end = performance.now() + SLICE;
  const rest = async () => {
    await breath();
    end = performance.now() + SLICE;
  };
  return () => (performance.now() < end ? undefined : rest());
}

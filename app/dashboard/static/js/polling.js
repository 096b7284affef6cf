// Asks again and again while a page is open: calmly when nobody looks, and later when the service asks for time.

const HIDDEN_FACTOR = 10;
const MAX_WAIT_MS = 60_000;

/**
 * Call `ask` now and then every `everyMs`, until `signal` or until it gives false. Never twice at once.
 *
 * @param ask an async function; a number that it gives is the wait until the next time.
 * @param onError called with an error and the wait in ms until the next attempt; null: it is not asked again.
 */
export async function poll(ask, { everyMs, signal, onError }) {
  let failures = 0;
  while (!signal.aborted) {
    let wait = everyMs;
    try {
      const said = await ask();
      failures = 0;
      if (said === false) return;
      if (typeof said === "number") wait = said;
    } catch (error) {
      if (signal.aborted || error.name === "AbortError") return;
      failures += 1;
      if (!error.passing) {
        onError(error, null);
        return;
      }
      // At least what the service asked for, and twice as long each time that it does not help.
      wait = Math.max(error.retryAfterMs ?? 0, Math.min(MAX_WAIT_MS, everyMs * 2 ** failures));
      onError(error, wait);
    }
    await pause(wait, signal, failures === 0);
  }
}

/** Wait so long; ten times as long in a tab that is hidden, unless it is looked at again. */
function pause(waitMs, signal, wakes) {
  return new Promise((resolve) => {
    const started = performance.now();
    let timer;
    const finish = () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", arrange);
      signal.removeEventListener("abort", finish);
      resolve();
    };
    const arrange = () => {
      clearTimeout(timer);
      const whole = document.hidden && wakes ? waitMs * HIDDEN_FACTOR : waitMs;
      timer = setTimeout(finish, Math.max(0, whole - (performance.now() - started)));
    };
    document.addEventListener("visibilitychange", arrange);
    signal.addEventListener("abort", finish);
    arrange();
  });
}

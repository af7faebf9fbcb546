// Waiting that ends: after a time, by a signal, or with an answer.

/** A timer takes no more than 31 bits. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Resolves after so many milliseconds, or once the signal is aborted. */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  if (ms <= 0 || signal.aborted) return;
  await new Promise<void>((done) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      done();
    };
    const timer = setTimeout(end, Math.min(ms, LONGEST_TIMER_MS));
    signal.addEventListener("abort", end);
  });
}

/** Throws once the signal is aborted. That of an app on a phone has no such function itself. */
export function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw new Error("it was stopped");
}

/** The answer, or an error that says what did not come within so many milliseconds. */
export async function within<T>(answer: Promise<T>, ms: number, what: string): Promise<T> {
  return await new Promise<T>((resolve, reject) => {
    const late = () => reject(new Error(`${what} did not answer within ${ms / 1000} s`));
    const timer = setTimeout(late, ms);
    answer.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

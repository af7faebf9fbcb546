// How long to wait before the next attempt.

import { setTimeout as sleep } from "node:timers/promises";
import type { DoorbellError } from "./error.js";

const FIRST_MS = 100;
const LONGEST_MS = 2_000;

/** Milliseconds to wait after the `failures`th failure in a row, counted from 0: what the
 * service asks for, and a little more, so that not all come back at once; else a random part
 * of a bound that doubles. */
export function pauseAfter(error: DoorbellError, failures: number, longest = LONGEST_MS): number {
  if (error.retryAfterMs !== undefined) return error.retryAfterMs * (1 + Math.random() / 5);
  return Math.min(longest, FIRST_MS * 2 ** failures) * (0.5 + Math.random() / 2);
}

/** Waits so many milliseconds, or until the signal. */
export async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(ms, undefined, signal && { signal }).catch(() => undefined);
}

// Who must be told otherwise, one after the other, from where one was.

import type { ResponseOf } from "./calls.js";
import type { Doorbell } from "./doorbell.js";
import { DoorbellError, invalid } from "./error.js";
import { pause, pauseAfter } from "./pause.js";

/** A notification that nobody looked at in time. */
export interface FollowUp extends Omit<ResponseOf<"listFollowUps">["followUps"][number], "position"> {
  /** Where to go on after it: store it once its work is done, and give it as `after`. It
   * names the life of the database as well; do not look into it. */
  readonly position: string;
}

/** Whose follow-ups, and from where. */
export interface FollowUpsOptions {
  /** The tenant. */
  readonly orgId: string;
  /** The `position` of the last one whose work is done. Absent or empty: from the first that is
   * kept, up to 30 days old. */
  readonly after?: string | undefined;
  /** Whether to wait for the next one where there are no more, which is so unless it is `false`. */
  readonly follow?: boolean | undefined;
  /** Ends the iteration, without an error. */
  readonly signal?: AbortSignal | undefined;
  /** Told of each failure that is waited out. */
  readonly onError?: ((error: DoorbellError) => void) | undefined;
}

/** Longer than a proxy's idea of silence would be of no use. */
const WAIT_MS = 30_000;
const LONGEST_PAUSE_MS = 10_000;

/** See `Doorbell.followUps`. */
export async function* followUps(
  doorbell: Doorbell,
  { orgId, after = "", follow = true, signal, onError }: FollowUpsOptions,
): AsyncGenerator<FollowUp, void, undefined> {
  let { afterPosition, epoch } = placeOf(after);
  const options = { retries: 0, ...(signal && { signal }) };
  for (let failures = 0; !signal?.aborted; ) {
    const request = { orgId, afterPosition, epoch, wait: follow ? WAIT_MS : 0 };
    try {
      const page = await doorbell.listFollowUps(request, options);
      failures = 0;
      for (const { position, ...followUp } of page.followUps) {
        if (signal?.aborted) return;
        yield { ...followUp, position: `${position} ${page.epoch}` };
      }
      if (!follow && page.followUps.length === 0) return;
      ({ position: afterPosition, epoch } = page);
    } catch (thrown) {
      if (signal?.aborted) return;
      const isWaitedOut =
        thrown instanceof DoorbellError && (thrown.isPassing || thrown.code === "DEADLINE_EXCEEDED");
      if (!isWaitedOut) throw thrown;
      onError?.(thrown);
      await pause(pauseAfter(thrown, failures, LONGEST_PAUSE_MS), signal);
      failures += 1;
    }
  }
}

function placeOf(position: string): { afterPosition: number; epoch: string } {
  if (position.trim() === "") return { afterPosition: 0, epoch: "" };
  const [, count, epoch] = /^(\d+) (\S+)$/.exec(position.trim()) ?? [];
  if (count && epoch) return { afterPosition: Number(count), epoch };
  throw invalid("after", `must be the position of a follow-up, and is ${JSON.stringify(position)}`);
}

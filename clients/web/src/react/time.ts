// How long ago something was, in the reader's language.

import { Listeners } from "../listeners.js";

const UNITS: readonly (readonly [Intl.RelativeTimeFormatUnit, number])[] = [
  ["year", 31_557_600],
  ["month", 2_629_800],
  ["week", 604_800],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
];

/** Half of the shortest unit that is told apart. */
const TICK_MS = 30_000;

const formats = new Map<string | undefined, Intl.RelativeTimeFormat>();

/** Each is slow to make, and there are many times in a list. */
function formatOf(locale: string | undefined): Intl.RelativeTimeFormat {
  const held = formats.get(locale);
  if (held) return held;
  const made = new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "long" });
  formats.set(locale, made);
  return made;
}

/** "5 minutes ago", "yesterday", "now": also for what a clock that goes ahead has made. */
export function relative(then: Date, now: Date, locale: string | undefined): string {
  const seconds = Math.min(0, (then.getTime() - now.getTime()) / 1000);
  const format = formatOf(locale);
  for (const [unit, length] of UNITS) {
    if (-seconds >= length) return format.format(Math.trunc(seconds / length), unit);
  }
  return format.format(0, "second");
}

/** "5 August 2026, 14:03:00". */
export function absolute(then: Date, locale: string | undefined): string {
  return then.toLocaleString(locale);
}

/** Has the browser load what it knows of a language once it has nothing else to do: that
 * takes as long as a list takes to be shown. Answers what ends it. */
export function prepareTimes(locale: string | undefined): () => void {
  // Where a browser lacks it, the list is what loads it.
  const idle = window.requestIdleCallback?.(() => {
    const now = new Date();
    relative(now, now, locale);
    absolute(now, locale);
  });
  return () => {
    if (idle !== undefined) cancelIdleCallback(idle);
  };
}

const clock = new Listeners<[]>();
let listening = 0;
let ticking: ReturnType<typeof setInterval> | undefined;

/** Calls `listener` as time goes on: one timer for all. Answers what ends it. */
export function subscribeClock(listener: () => void): () => void {
  const forget = clock.add(listener);
  listening += 1;
  ticking ??= setInterval(() => clock.tell(), TICK_MS);
  return () => {
    forget();
    listening -= 1;
    if (listening > 0) return;
    clearInterval(ticking);
    ticking = undefined;
  };
}

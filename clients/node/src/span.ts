// Lengths of time, as people write them.

import { invalid } from "./error.js";

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A length of time: milliseconds, or text as in `"30s"`, `"10m"`, `"7d"`. */
export type Span = number | `${number}${keyof typeof UNITS}`;

/** In milliseconds; `field` is what it is the value of. */
export function milliseconds(field: string, span: Span): number {
  const [, count, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(String(span)) ?? [];
  const length = typeof span === "number" ? span : Number(count) * UNITS[unit as keyof typeof UNITS];
  if (Number.isFinite(length) && length >= 0) return length;
  throw invalid(field, `must be milliseconds, or text such as "10m", and is ${String(span)}`);
}

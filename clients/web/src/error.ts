// What an error means for who waits: over soon, a new token, or the end.

import { Code, ConnectError } from "@connectrpc/connect";

/** How to go on after an error. */
export type Cure =
  /** Try again later. */
  | "wait"
  /** Ask for a token, then try again. */
  | "token"
  /** Nothing that this client could do would help. */
  | "none";

/** What to do about an error of a call. */
export function cureOf(error: unknown): Cure {
  switch (ConnectError.from(error).code) {
    case Code.Unauthenticated:
      return "token";
    case Code.PermissionDenied:
    case Code.InvalidArgument:
    case Code.NotFound:
    case Code.Unimplemented:
      return "none";
    default:
      return "wait";
  }
}

// Doorbell for backends in Node.js: see README.md.

export { Doorbell, type DoorbellOptions } from "./doorbell.js";
export type { CallName, CallOptions, Calls, RequestOf, ResponseOf } from "./calls.js";
export { DoorbellError, type ErrorCode, type Violation } from "./error.js";
export type { FollowUp, FollowUpsOptions } from "./followUps.js";
export type { Pages } from "./pages.js";
export type { Span } from "./span.js";
export { createUserToken, type Algorithm, type UserTokenOptions } from "./userToken.js";

import type { ResponseOf } from "./calls.js";

/** A notification of an inbox. */
export type Notification = NonNullable<ResponseOf<"sendInApp">["notification"]>;
/** The counts of an inbox at one revision. */
export type Head = NonNullable<ResponseOf<"sendInApp">["head"]>;
/** A send that outlives its call. */
export type Send = NonNullable<ResponseOf<"getSend">["send"]>;

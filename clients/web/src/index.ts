// `@doorbell/web`: the inbox of a user, in a page.

export {
  createInbox,
  type Announce,
  type Arrival,
  type InboxClient,
  type InboxOptions,
  type InboxView,
  type Selection,
  type TypeCounter,
} from "./client.js";
export { desktopNotifications, type Desktop, type DesktopOptions, type DesktopPermission } from "./desktop.js";
export type { ClaimNames } from "./identity.js";
export type { About, Action, Notification } from "./notification.js";
export type { Fetch, FetchAnswer, InboxStorage, PieceReader } from "./outside.js";
export type { Preference, PreferenceChoice } from "./preferences.js";
export type { Question } from "./question.js";
export type {
  Problem,
  ProblemKind,
  Snapshot,
  Status,
  TypeCounts,
  ViewSnapshot,
} from "./snapshot.js";
export { ringSound } from "./sound.js";
export { titleBadge, type TitleBadgeOptions } from "./title.js";

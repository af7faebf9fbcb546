// Messages of the wire as plain data.
//
// Revisions are numbers here: a change a microsecond would take 285 years to come to
// the end of those that a number holds exactly.

import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { durationMs, timestampMs } from "@bufbuild/protobuf/wkt";
import type { ChangedRow, Head, Message, Page, StreamEvent } from "./fold.js";
import type * as wire from "./gen/doorbell/v1/notifications_pb.js";
import type { GetPreferencesResponse } from "./gen/doorbell/v1/preferences_pb.js";
import type { Selected } from "./marks.js";
import type { Notification } from "./notification.js";
import type { Preference, PreferenceChoice } from "./preferences.js";

/** A page of the inbox. */
export function pageOf(response: wire.GetRecentResponse): Page {
  const { nextPageToken, epoch, head } = response;
  const notifications = response.notifications.map(notificationOf);
  const rings = new Map(response.notifications.map(({ id, ringRevision }) => [id, Number(ringRevision)]));
  return { notifications, nextPageToken, epoch, head: headOf(head), rings };
}

/** The head of an inbox. */
export function headOf(head: wire.Head | undefined): Head {
  return {
    revision: Number(head?.revision ?? 0),
    unreadCount: head?.unreadCount ?? 0,
    unseenCount: head?.unseenCount ?? 0,
    seenThrough: Number(head?.seenThrough ?? 0),
  };
}

/** A message of the stream. */
export function messageOf(response: wire.SubscribeResponse): Message {
  const { position, head, ring, event } = response;
  return { position: Number(position), head: headOf(head), ring, event: eventOf(event) };
}

/** What a verb is of, as a call has it. */
export function selectionOf(what: Selected) {
  if ("about" in what) return what;
  if (!("through" in what)) return { notificationIds: [...what] };
  const { revision, epoch, types = [] } = what.through;
  return { through: { revision: BigInt(revision), epoch, types: [...types] } };
}

/** What a person wants, of the answer to either call. */
export function preferencesOf(answer: Pick<GetPreferencesResponse, "preferences">): readonly Preference[] {
  return answer.preferences.map(({ type, on, required, chosen }) => ({ type, on, required, chosen }));
}

/** What is said of types, as a call has it. */
export function choicesOf(choices: readonly PreferenceChoice[]) {
  return { choices: choices.map(({ type, on }) => ({ type, ...(on !== undefined && { on }) })) };
}

function eventOf(event: wire.SubscribeResponse["event"]): StreamEvent {
  switch (event.case) {
    case "connected": {
      const { epoch, heartbeatInterval, tokenExpiresAt } = event.value;
      return {
        kind: "connected",
        epoch,
        heartbeat: heartbeatInterval ? durationMs(heartbeatInterval) : 0,
        tokenEnds: tokenExpiresAt ? timestampMs(tokenExpiresAt) : 0,
      };
    }
    case "notification":
      return { kind: "notification", notification: notificationOf(event.value) };
    case "changed":
      return { kind: "changed", rows: event.value.notifications.map(stateOf) };
    case "seen":
    case "caughtUp":
    case "heartbeat":
      return { kind: event.case };
    case "reset":
      return { kind: "reset", epoch: event.value.epoch };
    case "reconnect": {
      const { after } = event.value;
      return { kind: "reconnect", after: after ? durationMs(after) : 0 };
    }
    default:
      return { kind: "unknown" };
  }
}

function notificationOf(row: wire.Notification): Notification {
  const { id, type, title, body, entityType, entityId, actionUrl, imageUrl, data } = row;
  const { sentAt, expireTime, collapsedCount, readAt, archivedAt } = row;
  const actions = row.actions.map(({ label, url, isPrimary }) => ({ label, url, isPrimary }));
  return {
    id,
    sequence: Number(row.sequence),
    revision: Number(row.revision),
    type,
    title,
    ...(body !== undefined && { body }),
    ...(entityType !== undefined && { entityType }),
    ...(entityId !== undefined && { entityId }),
    ...(actionUrl !== undefined && { actionUrl }),
    ...(imageUrl !== undefined && { imageUrl }),
    ...(actions.length > 0 && { actions }),
    ...(data && { data }),
    createdAt: isoOf(row.createdAt),
    ...(sentAt && { sentAt: isoOf(sentAt) }),
    ...(expireTime && { expireTime: isoOf(expireTime) }),
    ...(collapsedCount > 0 && { collapsedCount }),
    ...(readAt && { readAt: isoOf(readAt) }),
    ...(archivedAt && { archivedAt: isoOf(archivedAt) }),
  };
}

function stateOf(row: wire.ChangedNotification): ChangedRow {
  const { id, readAt, archivedAt, removedAt, notification } = row;
  return {
    id,
    sequence: Number(row.sequence),
    revision: Number(row.revision),
    ...(readAt && { readAt: isoOf(readAt) }),
    ...(archivedAt && { archivedAt: isoOf(archivedAt) }),
    ...(removedAt && { removedAt: isoOf(removedAt) }),
    ...(notification && { whole: notificationOf(notification) }),
  };
}

/** `2026-11-22T08:00:00.000000Z`. */
function isoOf(time: Pick<Timestamp, "seconds" | "nanos"> | undefined): string {
  const { seconds = 0, nanos = 0 } = time ?? {};
  const whole = new Date(1000 * Number(seconds)).toISOString().slice(0, 19);
  return `${whole}.${String(Math.trunc(nanos / 1000)).padStart(6, "0")}Z`;
}

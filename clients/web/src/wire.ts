// Messages of the wire as plain data.
//
// Revisions are numbers here: a change a microsecond would take 285 years to come to
// the end of those that a number holds exactly.

import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { durationMs, timestampMs } from "@bufbuild/protobuf/wkt";
import type { Message, Page, StreamEvent } from "./fold.js";
import type * as wire from "./gen/doorbell/v1/notifications_pb.js";
import type { Notification } from "./notification.js";

/** A page of the inbox. */
export function pageOf(response: wire.GetRecentResponse): Page {
  const { nextPageToken, epoch, unreadCount } = response;
  const notifications = response.notifications.map(notificationOf);
  return { notifications, nextPageToken, epoch, revision: Number(response.revision), unreadCount };
}

/** A message of the stream. */
export function messageOf(response: wire.SubscribeResponse): Message {
  const { unreadCount, replayed } = response;
  return {
    position: Number(response.position),
    revision: Number(response.revision),
    unreadCount,
    replayed,
    event: eventOf(response.event),
  };
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
    case "markedRead": {
      const { notificationIds: ids, readAt } = event.value;
      return { kind: "markedRead", ids, readAt: isoOf(readAt) };
    }
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
  const { id, type, title, body, entityType, entityId, actionUrl, data } = row;
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
    ...(data && { data }),
    createdAt: isoOf(row.createdAt),
    ...(row.readAt && { readAt: isoOf(row.readAt) }),
    ...(row.archivedAt && { archivedAt: isoOf(row.archivedAt) }),
  };
}

/** `2026-11-22T08:00:00.000000Z`. */
function isoOf(time: Pick<Timestamp, "seconds" | "nanos"> | undefined): string {
  const { seconds = 0, nanos = 0 } = time ?? {};
  const whole = new Date(1000 * Number(seconds)).toISOString().slice(0, 19);
  return `${whole}.${String(Math.trunc(nanos / 1000)).padStart(6, "0")}Z`;
}

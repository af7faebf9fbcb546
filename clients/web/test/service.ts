// A service in memory that keeps the rules of the real one, and that a test can
// cut, stop and ask what was called.

import { create, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createRouterTransport, type HandlerContext } from "@connectrpc/connect";
import {
  ChangedNotificationSchema,
  HeadSchema,
  NotificationSchema,
  NotificationService,
  SubscribeResponseSchema,
  type Head,
  type Notification,
  type SubscribeResponse,
} from "../src/gen/doorbell/v1/notifications_pb.js";

type Message = MessageInitShape<typeof SubscribeResponseSchema>;

/** Who follows, and what waits for it. */
interface Follower {
  readonly queue: SubscribeResponse[];
  wake: () => void;
  end: ConnectError | undefined;
}

/** As the service says it: with a reason. */
export function refusal(code: Code): ConnectError {
  const error = new ConnectError("no", code);
  error.details.push({ type: "google.rpc.ErrorInfo", value: new Uint8Array() });
  return error;
}

function isListed(row: Notification): boolean {
  return !row.archivedAt && !row.removedAt;
}

function isUnread(row: Notification): boolean {
  return !row.readAt && isListed(row);
}

function stateOf(row: Notification, isBack = false) {
  const { id, sequence, revision, readAt, archivedAt, removedAt } = row;
  const state = create(ChangedNotificationSchema, { id, sequence, revision });
  return Object.assign(state, { readAt, archivedAt, removedAt }, isBack && { notification: row });
}

/** One user's inbox. */
export class Service {
  epoch = "the first";
  rows: Notification[] = [];
  revision = 0n;
  heartbeatSeconds = 25;
  /** How long tokens live, in ms. */
  tokenLife = 3_600_000;
  /** Tokens that are accepted; all where there is none. */
  accepted: string | undefined;
  /** Whether it marks nothing, and answers no mark. */
  isMute = false;
  /** Whether something on the way holds streams back: they open, and say nothing. */
  isHeldBack = false;
  /** What was marked, call by call. */
  readonly marked: string[][] = [];
  /** The sequence up to which the person has looked. */
  seenThrough = 0n;
  /** How many one change of all marks at most. */
  mostChanged = Number.POSITIVE_INFINITY;
  /** What every call fails with. */
  failure: ConnectError | undefined;
  /** A follower that has more to take lags. */
  mostQueued = Number.POSITIVE_INFINITY;
  readonly calls: string[] = [];
  readonly followers = new Set<Follower>();
  mostFollowers = 0;

  get unreadCount(): number {
    return this.rows.filter((row) => isUnread(row)).length;
  }

  get unseenCount(): number {
    return this.rows.filter((row) => this.#isUnseen(row)).length;
  }

  #isUnseen(row: Notification): boolean {
    return isUnread(row) && row.sequence > this.seenThrough;
  }

  send(title: string, data?: JsonObject): Notification {
    this.revision += 1n;
    const row = create(NotificationSchema, {
      id: `id ${this.revision}`,
      sequence: this.revision,
      revision: this.revision,
      type: "test",
      title,
      ...(data && { data }),
      createdAt: timestampFromMs(Number(this.revision)),
    });
    this.rows.push(row);
    this.#publish({ ring: true, event: { case: "notification", value: row } });
    return row;
  }

  mark(ids: readonly string[]): number {
    return this.#edit((row) => ids.includes(row.id) && isUnread(row), "readAt");
  }

  archive(ids: readonly string[]): number {
    return this.#edit((row) => ids.includes(row.id) && isListed(row), "archivedAt");
  }

  remove(ids: readonly string[]): number {
    return this.#edit((row) => ids.includes(row.id) && isListed(row), "removedAt");
  }

  unarchive(ids: readonly string[]): number {
    return this.#edit((row) => ids.includes(row.id) && !!row.archivedAt && !row.removedAt, "unarchived");
  }

  see(sequence: bigint): void {
    if (sequence <= this.seenThrough) return;
    this.revision += 1n;
    this.seenThrough = sequence;
    this.#publish({ event: { case: "seen", value: {} } });
  }

  /** One change of all these rows; answers how many there are. */
  #edit(
    is: (row: Notification) => boolean,
    what: "readAt" | "archivedAt" | "removedAt" | "unarchived",
  ): number {
    const ids = new Set(this.rows.filter(is).map(({ id }) => id));
    if (ids.size === 0) return 0;
    this.revision += 1n;
    const { revision } = this;
    const now = timestampFromMs(Number(revision));
    this.rows = this.rows.map((row) => {
      if (!ids.has(row.id)) return row;
      const { archivedAt: _, ...rest } = row;
      return what === "unarchived" ? { ...rest, revision } : { ...row, revision, [what]: now };
    });
    const changed = this.rows.filter(({ id }) => ids.has(id));
    const notifications = changed.map((row) => stateOf(row, what === "unarchived"));
    this.#publish({ event: { case: "changed", value: { notifications } } });
    return ids.size;
  }

  /** Ends all streams. */
  cut(error = new ConnectError("cut", Code.Unavailable)): void {
    for (const follower of this.followers) {
      follower.end = error;
      follower.wake();
    }
  }

  /** Says something to all streams, whatever it means. */
  say(message: Message): void {
    this.#publish(message);
  }

  transport() {
    return createRouterTransport(({ service }) => {
      service(NotificationService, {
        getRecent: (request, context) => {
          this.#admit("getRecent", context);
          const before = request.pageToken ? BigInt(request.pageToken) : undefined;
          const since = request.since?.nanos;
          const found = this.rows
            .filter(isListed)
            .filter((row) => before === undefined || row.sequence < before)
            .filter((row) => since === undefined || (row.createdAt?.nanos ?? 0) > since)
            .reverse();
          const notifications = found.slice(0, request.limit || 20);
          const last = notifications.at(-1);
          const more = found.length > notifications.length;
          return {
            head: this.head,
            epoch: this.epoch,
            notifications,
            nextPageToken: more && last ? String(last.sequence) : "",
          };
        },
        getUnreadCount: (_, context) => {
          this.#admit("getUnreadCount", context);
          return { head: this.head };
        },
        markRead: async (request, context) => {
          this.#admit("markRead", context);
          if (this.isMute) await new Promise(() => undefined);
          const { notificationIds, through } = request;
          if (!through) {
            this.marked.push(notificationIds);
            return { changedCount: this.mark(notificationIds), head: this.head };
          }
          this.#refuseUnknown(through.revision, through.epoch);
          const all = this.rows.filter((row) => isUnread(row) && row.revision <= through.revision);
          const ids = all.slice(0, this.mostChanged).map((row) => row.id);
          this.marked.push(ids);
          const more = ids.length < all.length;
          return { changedCount: this.mark(ids), more, head: this.head };
        },
        markSeen: (request, context) => {
          this.#admit("markSeen", context);
          this.#refuseUnknown(request.throughSequence, request.epoch);
          this.see(request.throughSequence);
          return { head: this.head };
        },
        subscribe: (request, context) => this.#follow(request, context),
      });
    });
  }

  get head(): Head {
    const { revision, unreadCount, unseenCount, seenThrough } = this;
    return create(HeadSchema, { revision, unreadCount, unseenCount, seenThrough });
  }

  #refuseUnknown(revision: bigint, epoch: string): void {
    if (epoch === this.epoch && revision <= this.revision) return;
    throw refusal(Code.FailedPrecondition);
  }

  #admit(call: string, context: HandlerContext): void {
    const token = context.requestHeader.get("authorization") ?? "";
    this.calls.push(call);
    if (this.failure) throw this.failure;
    if (this.accepted !== undefined && token !== `Bearer ${this.accepted}`) {
      throw new ConnectError("no", Code.Unauthenticated);
    }
  }

  #publish(message: Message): void {
    const whole = create(SubscribeResponseSchema, {
      position: this.revision,
      head: this.head,
      ...message,
    });
    for (const follower of this.followers) {
      follower.queue.push(whole);
      follower.wake();
    }
  }

  /** The rows that changed, in the order of their last change, and the end. */
  *#catchUp(after: bigint, healedFrom: bigint | undefined): Generator<Message, bigint> {
    const changed = this.rows
      .filter((row) => row.revision > after)
      .sort((a, b) => Number(a.revision - b.revision || a.sequence - b.sequence));
    const { head } = this;
    let position = after;
    for (const [at, row] of changed.entries()) {
      if (changed[at + 1]?.revision !== row.revision) position = row.revision;
      const event = row.removedAt
        ? { case: "changed" as const, value: { notifications: [stateOf(row)] } }
        : { case: "notification" as const, value: row };
      const isNew = healedFrom !== undefined && row.sequence > healedFrom;
      yield { position, head, ring: isNew && this.#isUnseen(row), event };
    }
    const end = { case: "caughtUp" as const, value: {} };
    yield { position: head.revision, head, event: end };
    return head.revision;
  }

  async *#follow(
    request: { afterRevision?: bigint | undefined; epoch?: string | undefined },
    context: HandlerContext,
  ): AsyncGenerator<Message> {
    this.#admit(`subscribe after ${request.afterRevision}`, context);
    if (this.isHeldBack) {
      await new Promise<void>((done) => context.signal.addEventListener("abort", () => done()));
      return;
    }
    const follower: Follower = { queue: [], wake: () => undefined, end: undefined };
    this.followers.add(follower);
    this.mostFollowers = Math.max(this.mostFollowers, this.followers.size);
    context.signal.addEventListener("abort", () => follower.wake());
    try {
      const after = request.afterRevision ?? this.revision;
      const connected = {
        epoch: this.epoch,
        heartbeatInterval: { seconds: BigInt(this.heartbeatSeconds) },
        tokenExpiresAt: timestampFromMs(Date.now() + this.tokenLife),
      };
      yield { position: after, head: this.head, event: { case: "connected", value: connected } };
      const foreign = request.epoch !== undefined && request.epoch !== this.epoch;
      if (foreign || after > this.revision) {
        const reset = { case: "reset" as const, value: { epoch: this.epoch } };
        yield { position: after, head: this.head, event: reset };
        return;
      }
      let position = after;
      if (request.afterRevision !== undefined) {
        position = yield* this.#catchUp(after, undefined);
      }
      while (!context.signal.aborted) {
        if (follower.queue.length > this.mostQueued) {
          // It lagged: what was dropped is healed from what there is.
          follower.queue.length = 0;
          position = yield* this.#catchUp(position, position);
        }
        const message = follower.queue.shift();
        if (message) {
          // What came while it caught up may be behind it.
          if (message.position < position) continue;
          position = message.position;
          yield message;
        } else if (follower.end) throw follower.end;
        else await new Promise<void>((wake) => (follower.wake = wake));
      }
    } finally {
      this.followers.delete(follower);
    }
  }
}

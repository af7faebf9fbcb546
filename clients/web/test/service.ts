// A service in memory that keeps the rules of the real one, and that a test can
// cut, stop and ask what was called.

import { create, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createRouterTransport, type HandlerContext } from "@connectrpc/connect";
import {
  NotificationSchema,
  NotificationService,
  SubscribeResponseSchema,
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
  /** What every call fails with. */
  failure: ConnectError | undefined;
  /** A follower that has more to take lags. */
  mostQueued = Number.POSITIVE_INFINITY;
  readonly calls: string[] = [];
  readonly followers = new Set<Follower>();
  mostFollowers = 0;

  get unreadCount(): number {
    return this.rows.filter((row) => !row.readAt && !row.archivedAt).length;
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
    this.#publish({ event: { case: "notification", value: row } });
    return row;
  }

  mark(ids: readonly string[]): number {
    const rows = this.rows.filter((row) => ids.includes(row.id) && !row.readAt);
    if (rows.length === 0) return 0;
    this.revision += 1n;
    const readAt = timestampFromMs(Number(this.revision));
    const { revision } = this;
    this.rows = this.rows.map((row) => (rows.includes(row) ? { ...row, revision, readAt } : row));
    const notificationIds = rows.map((row) => row.id);
    this.#publish({ event: { case: "markedRead", value: { notificationIds, readAt } } });
    return rows.length;
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
            .filter((row) => !row.archivedAt)
            .filter((row) => before === undefined || row.sequence < before)
            .filter((row) => since === undefined || (row.createdAt?.nanos ?? 0) > since)
            .reverse();
          const notifications = found.slice(0, request.limit || 20);
          const last = notifications.at(-1);
          const more = found.length > notifications.length;
          return {
            ...this.#head(),
            epoch: this.epoch,
            notifications,
            nextPageToken: more && last ? String(last.sequence) : "",
          };
        },
        getUnreadCount: (_, context) => {
          this.#admit("getUnreadCount", context);
          return this.#head();
        },
        markRead: async (request, context) => {
          this.#admit("markRead", context);
          if (this.isMute) await new Promise(() => undefined);
          this.marked.push(request.notificationIds);
          const markedCount = this.mark(request.notificationIds);
          return { ...this.#head(), markedCount };
        },
        subscribe: (request, context) => this.#follow(request, context),
      });
    });
  }

  #head() {
    return { revision: this.revision, unreadCount: this.unreadCount };
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
      ...this.#head(),
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
    const head = this.#head();
    let position = after;
    for (const [at, row] of changed.entries()) {
      if (changed[at + 1]?.revision !== row.revision) position = row.revision;
      const event = { case: "notification" as const, value: row };
      const replayed = healedFrom === undefined || row.sequence <= healedFrom;
      yield { position, ...head, replayed, event };
    }
    const end = { case: "caughtUp" as const, value: {} };
    yield { position: head.revision, ...head, replayed: true, event: end };
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
      yield { position: after, ...this.#head(), event: { case: "connected", value: connected } };
      const foreign = request.epoch !== undefined && request.epoch !== this.epoch;
      if (foreign || after > this.revision) {
        const reset = { case: "reset" as const, value: { epoch: this.epoch } };
        yield { position: after, ...this.#head(), event: reset };
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

// A service in memory that keeps the rules of the real one, and that a test can
// cut, stop and ask what was called.

import { create, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createRouterTransport, type HandlerContext } from "@connectrpc/connect";
import {
  ChangedNotificationSchema,
  HeadSchema,
  MarkReadRequestSchema,
  NotificationSchema,
  NotificationService,
  RemovalCause,
  SubscribeResponseSchema,
  View,
  type About,
  type Head,
  type MarkReadRequest,
  type Notification,
  type SubscribeResponse,
} from "../src/gen/doorbell/v1/notifications_pb.js";
import { PreferenceService, type Choice } from "../src/gen/doorbell/v1/preferences_pb.js";

type Verb = keyof typeof EDITS;
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

function isAbout({ entityType, entityId }: Notification, about: About): boolean {
  return entityType === about.entityType && entityId === about.entityId;
}

/** What each verb does. */
const EDITS = {
  markRead: { changes: isUnread, edit: (readAt: Timestamp) => ({ readAt }) },
  markUnread: {
    changes: (row: Notification) => isListed(row) && !!row.readAt,
    edit: () => ({ readAt: undefined }),
  },
  archive: { changes: isListed, edit: (archivedAt: Timestamp) => ({ archivedAt }) },
  unarchive: {
    changes: (row: Notification) => !!row.archivedAt && !row.removedAt,
    edit: () => ({ archivedAt: undefined }),
  },
  remove: {
    changes: (row: Notification) => !row.removedAt,
    edit: (removedAt: Timestamp) => ({ removedAt }),
  },
};

const REPLACED = { isBack: false, removalCause: RemovalCause.REPLACED };

function stateOf(row: Notification, { isBack = false, removalCause = RemovalCause.USER } = {}) {
  const { id, sequence, revision, readAt, archivedAt, removedAt } = row;
  const state = create(ChangedNotificationSchema, { id, sequence, revision });
  if (removedAt) state.removalCause = removalCause;
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
  /** What was marked, call by call, and with which verb. */
  readonly marked: string[][] = [];
  readonly done: [Verb, ...string[]][] = [];
  /** The sequence up to which the person has looked. */
  seenThrough = 0n;
  /** How many one change of all marks at most. */
  mostChanged = Number.POSITIVE_INFINITY;
  /** How many a page looks at to find those that it answers with. */
  mostLookedAt = Number.POSITIVE_INFINITY;
  /** What the person said of types, and what their organization says. */
  readonly chosen = new Map<string, boolean>();
  readonly typeDefaults = new Map<string, { readonly on: boolean; readonly required: boolean }>();
  /** What pages wait for before they are answered. */
  late: Promise<void> | undefined;
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

  send(title: string, data?: JsonObject, more: MessageInitShape<typeof NotificationSchema> = {}): Notification {
    this.revision += 1n;
    const row = Object.assign(this.#made(title, "test"), data && { data }, more);
    this.rows.push(row);
    this.#publish({ ring: row.ringRevision > 0n, event: { case: "notification", value: row } });
    return row;
  }

  #made(title: string, type: string): Notification {
    const { revision } = this;
    const createdAt = timestampFromMs(Number(revision));
    return create(NotificationSchema, {
      ...{ id: `id ${revision}`, sequence: revision, revision, type, title },
      ...{ createdAt, sentAt: createdAt, ringRevision: revision },
    });
  }

  /** Sends one that takes the place of another: one change, both rows. */
  replace(id: string, title: string): Notification | undefined {
    const former = this.rows.find((row) => row.id === id && isUnread(row));
    if (!former) return undefined;
    this.revision += 1n;
    const { revision } = this;
    const gone = { ...former, revision, removedAt: timestampFromMs(Number(revision)) };
    const row = this.#made(title, former.type);
    row.collapsedCount = former.collapsedCount + 1;
    this.rows = [...this.rows.map((other) => (other === former ? gone : other)), row];
    const notifications = [stateOf(gone, REPLACED), stateOf(row, { isBack: true })];
    this.#publish({ ring: true, event: { case: "changed", value: { notifications } } });
    return row;
  }

  /** Corrects one in place. */
  update(id: string, title: string, ring = false): void {
    const former = this.rows.find((row) => row.id === id && !row.removedAt);
    if (!former || former.title === title) return;
    this.revision += 1n;
    const isHeard = ring && isListed(former);
    const row = { ...former, title, revision: this.revision, ...(isHeard && { ringRevision: this.revision }) };
    this.rows = this.rows.map((other) => (other === former ? row : other));
    this.#publish({ ring: isHeard, event: { case: "notification", value: row } });
  }

  mark(ids: readonly string[]): number {
    return this.#edit("markRead", ids);
  }
  markUnread(ids: readonly string[]): number {
    return this.#edit("markUnread", ids);
  }
  archive(ids: readonly string[]): number {
    return this.#edit("archive", ids);
  }
  unarchive(ids: readonly string[]): number {
    return this.#edit("unarchive", ids);
  }
  remove(ids: readonly string[]): number {
    return this.#edit("remove", ids);
  }
  /** Their time is over. */
  expire(ids: readonly string[]): number {
    return this.#edit("remove", ids, RemovalCause.EXPIRED);
  }

  see(sequence: bigint): void {
    if (sequence <= this.seenThrough) return;
    this.revision += 1n;
    this.seenThrough = sequence;
    this.#publish({ event: { case: "seen", value: {} } });
  }

  /** One change of those of these rows that a verb changes; answers how many there are. */
  #edit(verb: Verb, named: readonly string[], removalCause = RemovalCause.USER): number {
    const changes = (row: Notification) => named.includes(row.id) && EDITS[verb].changes(row);
    const ids = new Set(this.rows.filter(changes).map(({ id }) => id));
    if (ids.size === 0) return 0;
    this.revision += 1n;
    const { revision } = this;
    const now = timestampFromMs(Number(revision));
    this.rows = this.rows.map((row) => {
      if (!ids.has(row.id)) return row;
      return { ...row, ...EDITS[verb].edit(now), revision };
    });
    const changed = this.rows.filter(({ id }) => ids.has(id));
    const how = { isBack: verb === "unarchive", removalCause };
    const notifications = changed.map((row) => stateOf(row, how));
    this.#publish({ event: { case: "changed", value: { notifications } } });
    return ids.size;
  }

  /** Does what a call asks for, as far as one change goes. */
  #do(verb: Verb, request: MarkReadRequest) {
    const { notificationIds: ids, about, through } = request;
    if (through) this.#refuseUnknown(through.revision, through.epoch);
    const isWide = (row: Notification) =>
      isListed(row) === (verb !== "unarchive") &&
      EDITS[verb].changes(row) &&
      (!about || isAbout(row, about)) &&
      (!through || row.revision <= through.revision) &&
      (!through?.types.length || through.types.includes(row.type));
    const all = about || through ? this.rows.filter(isWide).map(({ id }) => id) : ids;
    const some = all.slice(0, this.mostChanged);
    this.marked.push(some);
    this.done.push([verb, ...some]);
    return { changedCount: this.#edit(verb, some), more: some.length < all.length, head: this.head };
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
        getRecent: async (request, context) => {
          this.#admit("getRecent", context);
          const before = request.pageToken ? BigInt(request.pageToken) : undefined;
          const since = request.since?.nanos;
          const { view, unreadOnly, types, about } = request;
          const looked = this.rows
            .filter((row) => !row.removedAt && !!row.archivedAt === (view === View.ARCHIVED))
            .filter((row) => before === undefined || row.sequence < before)
            .filter((row) => since === undefined || (row.createdAt?.nanos ?? 0) > since)
            .reverse();
          const found = looked
            .slice(0, this.mostLookedAt)
            .filter((row) => !unreadOnly || !row.readAt)
            .filter((row) => types.length === 0 || types.includes(row.type))
            .filter((row) => !about || isAbout(row, about));
          const notifications = found.slice(0, request.limit || 20);
          const isFull = found.length > notifications.length;
          const last = isFull ? notifications.at(-1) : looked[this.mostLookedAt - 1];
          const nextPageToken = last && last !== looked.at(-1) ? String(last.sequence) : "";
          const page = { head: this.head, epoch: this.epoch, notifications, nextPageToken };
          await this.late;
          return page;
        },
        getUnreadCount: (request, context) => {
          this.#admit("getUnreadCount", context);
          const types = request.types.map((type) => {
            const unreadCount = this.rows.filter((row) => row.type === type && isUnread(row)).length;
            return { type, unreadCount: Math.min(unreadCount, 1000), more: unreadCount > 1000 };
          });
          return { head: this.head, types };
        },
        markRead: async (request, context) => {
          this.#admit("markRead", context);
          if (this.isMute) await new Promise(() => undefined);
          return this.#do("markRead", request);
        },
        markUnread: ({ $typeName: _, ...request }, context) => {
          this.#admit("markUnread", context);
          return this.#do("markUnread", create(MarkReadRequestSchema, request));
        },
        archive: ({ $typeName: _, ...request }, context) => {
          this.#admit("archive", context);
          return this.#do("archive", create(MarkReadRequestSchema, request));
        },
        unarchive: ({ $typeName: _, ...request }, context) => {
          this.#admit("unarchive", context);
          return this.#do("unarchive", create(MarkReadRequestSchema, request));
        },
        remove: ({ $typeName: _, ...request }, context) => {
          this.#admit("remove", context);
          return this.#do("remove", create(MarkReadRequestSchema, request));
        },
        markSeen: (request, context) => {
          this.#admit("markSeen", context);
          this.#refuseUnknown(request.throughSequence, request.epoch);
          this.see(request.throughSequence);
          return { head: this.head };
        },
        subscribe: (request, context) => this.#follow(request, context),
      });
      service(PreferenceService, {
        getPreferences: (_, context) => {
          this.#admit("getPreferences", context);
          return { preferences: this.#preferences() };
        },
        updatePreferences: ({ choices }, context) => {
          this.#admit("updatePreferences", context);
          if (this.#areInvalid(choices)) throw refusal(Code.InvalidArgument);
          for (const { type, on } of choices) {
            if (on === undefined) this.chosen.delete(type);
            else this.chosen.set(type, on);
          }
          return { preferences: this.#preferences() };
        },
      });
    });
  }

  get head(): Head {
    const { revision, unreadCount, unseenCount, seenThrough } = this;
    return create(HeadSchema, { revision, unreadCount, unseenCount, seenThrough });
  }

  #preferences() {
    const types = [...new Set([...this.chosen.keys(), ...this.typeDefaults.keys()])].sort();
    return types.map((type) => {
      const chosen = this.chosen.get(type);
      const { on = true, required = false } = this.typeDefaults.get(type) ?? {};
      return { type, on: required || (chosen ?? on), required, chosen: chosen !== undefined };
    });
  }

  /** None, one twice, or a required one off. */
  #areInvalid(choices: readonly Choice[]): boolean {
    const isRequired = ({ type, on }: Choice) => on === false && this.typeDefaults.get(type)?.required;
    const types = new Set(choices.map(({ type }) => type));
    return choices.length === 0 || types.size < choices.length || choices.some(isRequired);
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
      const isNew = healedFrom !== undefined && row.ringRevision > healedFrom;
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

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { Fold } from "../src/fold.js";
import {
  GetRecentResponseSchema,
  NotificationSchema,
  NotificationService,
  SubscribeResponseSchema,
  type Notification,
  type SubscribeResponse,
} from "../src/gen/doorbell/v1/notifications_pb.js";
import { Service } from "./service.js";

/** Numbers that a seed repeats (https://prng.di.unimi.it/splitmix32). */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x9e3779b9) | 0;
    let word = state ^ (state >>> 16);
    word = Math.imul(word, 0x21f0aaad);
    word ^= word >>> 15;
    word = Math.imul(word, 0x735a2d97);
    return ((word ^ (word >>> 15)) >>> 0) % below;
  };
}

/** What the service has of the rows that the fold holds. */
function expected(service: Service, fold: Fold) {
  return service.rows
    .filter((row) => row.sequence >= fold.oldest && !row.archivedAt)
    .reverse()
    .map((row) => [row.id, row.revision, row.readAt !== undefined]);
}

function shown(fold: Fold) {
  return fold.rows.map((row) => [row.id, row.revision, row.readAt !== undefined]);
}

describe("whatever is cut, repeated and resumed", () => {
  for (let seed = 1; seed <= 150; seed += 1) {
    test(`seed ${seed}`, async () => {
      const below = seeded(seed);
      const service = new Service();
      service.mostQueued = below(2) === 0 ? 3 : Number.POSITIVE_INFINITY;
      const client = createClient(NotificationService, service.transport());
      const fold = new Fold();
      const rung = new Set<string>();
      const act = () => {
        if (below(3) > 0) service.send("a title");
        else {
          const ids = service.rows.map((row) => row.id).filter(() => below(4) === 0);
          service.mark(ids);
        }
      };
      const apply = (message: SubscribeResponse) => {
        const effect = fold.apply(message);
        if (effect.ring) {
          expect(rung.has(effect.ring.id), "rings twice").toBe(false);
          rung.add(effect.ring.id);
        }
        return effect.then;
      };
      for (let round = 0; round < 12; round += 1) {
        for (let count = below(6); count > 0; count -= 1) act();
        if (fold.position === undefined || below(6) === 0) {
          fold.load(await client.getRecent({ limit: 5 }));
        }
        if (below(3) === 0 && fold.nextPageToken) {
          const { life, nextPageToken } = fold;
          fold.beginPage();
          fold.addPage(await client.getRecent({ limit: 3, pageToken: nextPageToken }), life);
        }
        if (below(12) === 0) {
          service.epoch = `epoch ${round}`;
        }
        const abort = new AbortController();
        const request = { afterRevision: fold.position!, epoch: fold.epoch! };
        const stream = client.subscribe(request, { signal: abort.signal });
        // What is cut anywhere comes again from the position.
        let left = below(12) + 1;
        try {
          for await (const message of stream) {
            const then = apply(message);
            if (then === "load") break;
            if (below(5) === 0) expect(apply(message), "repeated").toBe(then);
            left -= 1;
            if (left === 0) break;
            if (below(2) === 0) act();
            // A burst is more than a follower may have before it.
            if (below(6) === 0) for (let count = 0; count < 6; count += 1) act();
            // Live, something always comes next.
            if (message.event.case === "caughtUp" || !message.replayed) service.send("a title");
          }
        } finally {
          abort.abort();
        }
      }
      if (fold.position === undefined) fold.load(await client.getRecent({ limit: 5 }));
      const abort = new AbortController();
      const request = { afterRevision: fold.position!, epoch: fold.epoch! };
      for await (const message of client.subscribe(request, { signal: abort.signal })) {
        if (apply(message) === "load") fold.load(await client.getRecent({ limit: 5 }));
        if (message.event.case === "caughtUp" || message.event.case === "reset") break;
      }
      abort.abort();
      expect(shown(fold)).toEqual(expected(service, fold));
      expect([fold.revision, fold.unreadCount]).toEqual([service.revision, service.unreadCount]);
    });
  }
});

test("a reply orders the count and moves no position", () => {
  const fold = new Fold();
  fold.observe(7n, 3);
  fold.observe(5n, 9);
  expect([fold.revision, fold.unreadCount, fold.position]).toEqual([7n, 3, undefined]);
});

/** A row that was last changed at `revision`. */
function row(sequence: number, revision = sequence, more: { title?: string; archivedAt?: Timestamp } = {}) {
  const at = { sequence: BigInt(sequence), revision: BigInt(revision) };
  return create(NotificationSchema, { id: `id ${sequence}`, ...at, ...more });
}

function page(revision: number, notifications: Notification[], nextPageToken = "", epoch = "one") {
  const head = { revision: BigInt(revision), unreadCount: notifications.length, epoch };
  return create(GetRecentResponseSchema, { ...head, notifications, nextPageToken });
}

/** What the stream says at a revision. */
function message(revision: number, event: MessageInitShape<typeof SubscribeResponseSchema>["event"]) {
  const head = { position: BigInt(revision), revision: BigInt(revision), unreadCount: 0 };
  return create(SubscribeResponseSchema, { ...head, ...(event && { event }) });
}

const readAt = timestampFromMs(1);
const archivedAt = timestampFromMs(2);
const marked = (...ids: string[]) => ({
  case: "markedRead" as const,
  value: { notificationIds: ids, readAt },
});
const upsert = (value: Notification) => ({ case: "notification" as const, value });
const ids = (fold: Fold) => fold.rows.map(({ id }) => id);

test("what changes in rows of a page while it is on its way is not lost", () => {
  const fold = new Fold();
  fold.load(page(6, [row(6), row(5)], "5"));
  fold.beginPage();
  fold.apply(message(7, marked("id 6", "id 4")));
  fold.apply(message(8, upsert(row(3, 8, { archivedAt }))));
  fold.apply(message(9, upsert(row(2, 9, { title: "changed" }))));
  // Which was archived, and is taken back.
  fold.apply(message(10, upsert(row(1, 10))));
  // The page is as of before all that.
  expect(fold.addPage(page(6, [row(4), row(3), row(2)]), fold.life)).toBe(true);
  expect(ids(fold)).toEqual(["id 6", "id 5", "id 4", "id 2", "id 1"]);
  expect(fold.rows.map((held) => held.readAt !== undefined)).toEqual([true, false, true, false, false]);
  expect(fold.rows[3]?.title).toBe("changed");
  expect(fold.revision).toBe(10n);
});

test("a page as of later than what came meanwhile is left as it is", () => {
  const fold = new Fold();
  fold.load(page(6, [row(6), row(5)], "5"));
  fold.beginPage();
  fold.apply(message(7, upsert(row(4, 7, { title: "former" }))));
  fold.addPage(page(8, [row(4, 8, { title: "latter" })]), fold.life);
  expect(fold.rows[2]?.title).toBe("latter");
});

test("what is archived is in no list, however it comes", () => {
  const archived = (sequence: number, revision: number) => row(sequence, revision, { archivedAt });
  const fold = new Fold();
  fold.load(page(4, [row(4), archived(3, 3), row(2)], "2"));
  expect(ids(fold)).toEqual(["id 4", "id 2"]);
  fold.apply(message(5, upsert(archived(2, 5))));
  expect(ids(fold)).toEqual(["id 4"]);
  expect(fold.apply(message(6, upsert(archived(6, 6)))).ring).toBe(undefined);
  // A copy of before that comes again does not bring it back.
  fold.apply(message(6, upsert(row(2, 2))));
  expect(ids(fold)).toEqual(["id 4"]);
  fold.addPolled(page(7, [archived(7, 7)]));
  fold.beginPage();
  fold.addPage(page(7, [archived(1, 1)]), fold.life);
  expect(ids(fold)).toEqual(["id 4"]);
});

test("a poll adds what is new; of another epoch, or not whole, it asks for a load", () => {
  const fold = new Fold();
  fold.load(page(2, [row(2), row(1)]));
  expect(fold.addPolled(page(3, [row(3)]))).toBe(true);
  expect([ids(fold), fold.position, fold.revision]).toEqual([["id 3", "id 2", "id 1"], 2n, 3n]);
  expect(fold.addPolled(page(104, [row(104)], "104"))).toBe(false);
  expect(ids(fold)).toEqual(["id 3", "id 2", "id 1"]);
  expect(fold.addPolled(page(1, [row(1)], "", "two"))).toBe(false);
  expect([fold.isLoaded, fold.position, ids(fold)]).toEqual([false, undefined, []]);
});

test("in a heal what is new rings, and what only changed does not", () => {
  const fold = new Fold();
  fold.load(page(5, [row(5)], "5"));
  const heal = (value: Notification, replayed: boolean) => {
    const healed = { ...message(9, upsert(value)), position: 5n, replayed };
    return fold.apply(create(SubscribeResponseSchema, healed)).ring?.id;
  };
  expect(heal(row(5, 6), true)).toBe(undefined);
  expect(heal(row(7, 7), false)).toBe("id 7");
  expect(heal(row(7, 7), false)).toBe(undefined);
  // The service says that it was only missed.
  expect(heal(row(8, 8), true)).toBe(undefined);
  expect(ids(fold)).toEqual(["id 8", "id 7", "id 5"]);
});

test("the state is the same object until something changes", () => {
  const fold = new Fold();
  fold.load(page(1, [row(1)]));
  fold.observe(1n, 0);
  const before = fold.state();
  fold.apply(message(1, { case: "heartbeat", value: {} }));
  expect(fold.state()).toBe(before);
  fold.observe(1n, 1);
  const counted = fold.state();
  expect(counted).toMatchObject({ unreadCount: 1 });
  fold.apply(message(2, upsert(row(2))));
  expect(fold.state()).toMatchObject({ unreadCount: 0, position: 2n });
  expect(counted).toMatchObject({ unreadCount: 1, position: 1n });
});

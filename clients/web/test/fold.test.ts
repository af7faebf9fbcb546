import { readFileSync } from "node:fs";
import { createClient } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { after, changeOf, merged } from "../src/change.js";
import { Fold, isLoaded, type ChangedRow, type Head, type State, type Message, type Page, type StreamEvent } from "../src/fold.js";
import { NotificationService } from "../src/gen/doorbell/v1/notifications_pb.js";
import type { Notification } from "../src/notification.js";
import { headOf, messageOf, pageOf } from "../src/wire.js";
import { seeded } from "./seeded.js";
import { Service } from "./service.js";

/** What the service has of the rows that the fold holds. */
function expected(service: Service, fold: Fold) {
  return service.rows
    .filter((row) => Number(row.sequence) >= fold.state.oldest && !row.archivedAt && !row.removedAt)
    .reverse()
    .map((row) => [row.id, Number(row.revision), row.readAt !== undefined]);
}

function shown(fold: Fold) {
  return fold.state.rows.map((row) => [row.id, row.revision, row.readAt !== undefined]);
}

describe("whatever is cut, repeated and resumed", () => {
  for (let seed = 1; seed <= 150; seed += 1) {
    test(`seed ${seed}`, async () => {
      const below = seeded(seed);
      const service = new Service();
      service.mostQueued = below(2) === 0 ? 3 : Number.POSITIVE_INFINITY;
      const client = createClient(NotificationService, service.transport());
      const fold = new Fold(below(2) === 0 ? 7 : 1000);
      const rung = new Set<string>();
      let former: { readonly position: number | undefined; readonly life: number } | undefined;
      const act = () => {
        const ids = () => service.rows.map((row) => row.id).filter(() => below(4) === 0);
        if (below(3) > 0) service.send("a title");
        else if (below(2) === 0) service.mark(ids());
        else if (below(3) === 0) service.archive(ids());
        else if (below(3) === 0) service.unarchive(ids());
        else if (below(3) === 0) service.remove(ids());
        else if (below(3) === 0) service.markUnread(ids());
        else if (below(3) === 0) service.expire(ids());
        else if (below(3) === 0) service.replace(ids()[0] ?? "", "in its place");
        else if (below(3) === 0) service.update(ids()[0] ?? "", `corrected at ${service.revision}`, below(2) === 0);
        else service.see(service.revision);
      };
      const apply = (message: Message) => {
        const effect = fold.apply(message);
        if (effect.ring) {
          // What is corrected may ring again.
          const key = `${effect.ring.id} at ${effect.ring.revision}`;
          expect(rung.has(key), "rings twice").toBe(false);
          rung.add(key);
        }
        return effect.then;
      };
      for (let round = 0; round < 12; round += 1) {
        for (let count = below(6); count > 0; count -= 1) act();
        if (fold.state.position === undefined || below(6) === 0) {
          fold.load(pageOf(await client.getRecent({ limit: 5 })));
        }
        if (below(3) === 0 && fold.state.nextPageToken) {
          await fold.more(3, async (asked) => pageOf(await client.getRecent(asked)));
        }
        if (below(12) === 0) {
          service.epoch = `epoch ${round}`;
        }
        const abort = new AbortController();
        // A stream that takes over was opened while the former one went on.
        const { position, epoch } = fold.state;
        const from = former?.life === fold.life && below(2) === 0 ? former.position : position;
        former = { position, life: fold.life };
        const request = { afterRevision: BigInt(from!), epoch };
        const stream = client.subscribe(request, { signal: abort.signal });
        // What is cut anywhere comes again from the position.
        let left = below(12) + 1;
        try {
          for await (const response of stream) {
            const message = messageOf(response);
            const then = apply(message);
            if (then === "load") break;
            if (below(5) === 0) expect(apply(message), "repeated").toBe(then);
            left -= 1;
            if (left === 0) break;
            if (below(2) === 0) act();
            // A burst is more than a follower may have before it.
            if (below(6) === 0) for (let count = 0; count < 6; count += 1) act();
            // Live, something always comes next.
            if (message.event.kind === "caughtUp" || message.event.kind === "changed" || message.ring) service.send("a title");
          }
        } finally {
          abort.abort();
        }
      }
      if (fold.state.position === undefined) fold.load(pageOf(await client.getRecent({ limit: 5 })));
      const abort = new AbortController();
      const request = { afterRevision: BigInt(fold.state.position!), epoch: fold.state.epoch };
      for await (const response of client.subscribe(request, { signal: abort.signal })) {
        const message = messageOf(response);
        if (apply(message) === "load") fold.load(pageOf(await client.getRecent({ limit: 5 })));
        if (message.event.kind === "caughtUp" || message.event.kind === "reset") break;
      }
      abort.abort();
      expect(shown(fold)).toEqual(expected(service, fold));
      expect(fold.state.head).toEqual(headOf(service.head));
    });
  }
});

function head(revision: number, unreadCount = 0): Head {
  return { revision, unreadCount, unseenCount: 0, seenThrough: 0 };
}

test("a reply orders the counts and moves no position", async () => {
  const fold = new Fold(200);
  fold.observe(head(7, 3));
  fold.observe(head(5, 9));
  expect(fold.state).toMatchObject({ head: head(7, 3), position: undefined });
  expect(isLoaded(fold.state)).toBe(false);
});

/** A row that was last changed at `revision`. */
function row(sequence: number, revision = sequence, more: Partial<Notification> = {}): Notification {
  const createdAt = "2026-11-22T08:00:00.000000Z";
  return { id: `id ${sequence}`, sequence, revision, type: "test", title: "", createdAt, ...more };
}

function page(revision: number, notifications: Notification[], nextPageToken = "", epoch = "one"): Page {
  const rings = new Map(notifications.map(({ id, sequence }) => [id, sequence]));
  return { head: head(revision, notifications.length), epoch, notifications, nextPageToken, rings };
}

/** What the stream says at a revision. */
function message(revision: number, event: StreamEvent): Message {
  return { position: revision, head: head(revision), ring: event.kind === "notification", event };
}

const readAt = "2026-11-22T08:00:01.000000Z";
const archivedAt = "2026-11-22T08:00:02.000000Z";
const changed = (...rows: ChangedRow[]) => ({ kind: "changed" as const, rows });
const marked = (revision: number, ...ids: string[]) =>
  changed(...ids.map((id) => ({ id, sequence: Number(id.slice(3)), revision, readAt })));
const upsert = (notification: Notification) => ({ kind: "notification" as const, notification });
/** Loads a page, while something comes. */
const more = (fold: Fold, found: Page, meanwhile: () => void = () => undefined) =>
  fold.more(20, async () => {
    meanwhile();
    return found;
  });
const ids = (fold: Fold) => fold.state.rows.map(({ id }) => id);

test("what changes in rows of a page while it is on its way is not lost", async () => {
  const fold = new Fold(200);
  fold.load(page(6, [row(6), row(5)], "5"));
  // The page is as of before all that.
  await more(fold, page(6, [row(4), row(3), row(2)]), () => {
    fold.apply(message(7, marked(7, "id 6", "id 4")));
    fold.apply(message(8, upsert(row(3, 8, { archivedAt }))));
    fold.apply(message(9, upsert(row(2, 9, { title: "changed" }))));
    // Which was archived, and is taken back.
    fold.apply(message(10, upsert(row(1, 10))));
  });
  expect(ids(fold)).toEqual(["id 6", "id 5", "id 4", "id 2", "id 1"]);
  expect(fold.state.rows.map((held) => held.readAt !== undefined)).toEqual([true, false, true, false, false]);
  expect(fold.state.rows[3]?.title).toBe("changed");
  expect(fold.state.head.revision).toBe(10);
});

test("a page as of later than what came meanwhile is left as it is", async () => {
  const fold = new Fold(200);
  fold.load(page(6, [row(6), row(5)], "5"));
  await more(fold, page(8, [row(4, 8, { title: "latter" })]), () =>
    fold.apply(message(7, upsert(row(4, 7, { title: "former" })))),
  );
  expect(fold.state.rows[2]?.title).toBe("latter");
});

test("an echo that comes while a page is on its way brings nothing back", async () => {
  const fold = new Fold(200);
  fold.load(page(6, [row(6), row(5)], "5"));
  fold.apply(message(7, changed({ id: "id 6", sequence: 6, revision: 7, archivedAt })));
  await more(fold, page(7, [row(4)]), () => fold.apply(message(6, upsert(row(6)))));
  expect(ids(fold)).toEqual(["id 5", "id 4"]);
});

test("what is archived is in no list, however it comes", async () => {
  const archived = (sequence: number, revision: number) => row(sequence, revision, { archivedAt });
  const fold = new Fold(200);
  fold.load(page(4, [row(4), archived(3, 3), row(2)], "2"));
  expect(ids(fold)).toEqual(["id 4", "id 2"]);
  fold.apply(message(5, upsert(archived(2, 5))));
  expect(ids(fold)).toEqual(["id 4"]);
  expect(fold.apply(message(6, upsert(archived(6, 6)))).ring).toBe(undefined);
  // A copy of before that comes again does not bring it back.
  fold.apply(message(6, upsert(row(2, 2))));
  expect(ids(fold)).toEqual(["id 4"]);
  fold.addPolled(page(7, [archived(7, 7), row(4)]));
  await more(fold, page(7, [archived(1, 1)]));
  expect(ids(fold)).toEqual(["id 4"]);
});

test("a poll has the first page as it is, and moves no position", async () => {
  const fold = new Fold(200);
  fold.load(page(4, [row(4), row(3), row(2)], "2"));
  await more(fold, page(4, [row(1)]));
  // One is new, one was read, one was archived; what is below the page stays.
  const found = [row(7), row(4, 5, { readAt })];
  expect(fold.addPolled(page(7, found, "4")).map(({ id }) => id)).toEqual(["id 7"]);
  expect(ids(fold)).toEqual(["id 7", "id 4", "id 3", "id 2", "id 1"]);
  expect(fold.state).toMatchObject({ position: 4, reached: 7, head: { revision: 7 } });
  fold.addPolled(page(8, [row(7), row(4, 5, { readAt }), row(2)], "2"));
  expect(ids(fold)).toEqual(["id 7", "id 4", "id 2", "id 1"]);
  // The stream brings it again, and nothing rings twice.
  expect(fold.apply(message(7, upsert(row(7)))).ring).toBe(undefined);
});

test("a poll that is not next to the list, or of another epoch, takes its place", () => {
  const fold = new Fold(200);
  fold.load(page(2, [row(2), row(1)]));
  // What is new is told all the same.
  const found = fold.addPolled(page(104, [row(104), row(103)], "103"));
  expect(found.map(({ id }) => id)).toEqual(["id 104", "id 103"]);
  expect(ids(fold)).toEqual(["id 104", "id 103"]);
  expect(fold.state).toMatchObject({ position: 104, oldest: 103 });
  expect(fold.addPolled(page(1, [row(1)], "", "two"))).toEqual([]);
  expect(ids(fold)).toEqual(["id 1"]);
  expect(fold.state).toMatchObject({ epoch: "two", head: { revision: 1 }, position: 1 });
});

test("what a poll has told is not told again, though it left the inbox and came back", () => {
  const fold = new Fold(200);
  fold.load(page(1, [row(1)]));
  const polled = (...given: Parameters<typeof page>) => fold.addPolled(page(...given)).map(({ id }) => id);
  expect(polled(3, [row(3), row(2, 2, { readAt }), row(1)])).toEqual(["id 3"]);
  // Archived elsewhere, and brought back.
  expect(polled(4, [row(2, 2, { readAt }), row(1)])).toEqual([]);
  expect(polled(5, [row(3, 5), row(2, 2, { readAt }), row(1)])).toEqual([]);
  // Nor is what was told read again.
  expect(polled(7, [row(6), row(3, 5), row(2, 7), row(1)])).toEqual(["id 6"]);
});

test("a poll tells what was to be heard since, and nothing else", () => {
  const fold = new Fold(200);
  fold.load(page(2, [row(2), row(1)]));
  const polled = (revision: number, rings: readonly (readonly [string, number])[], ...rows: Notification[]) => {
    const found = { ...page(revision, rows), rings: new Map(rings) };
    return fold.addPolled({ ...found, head: { ...found.head, seenThrough: 2 } }).map(({ id }) => id);
  };
  // One is silent, one was corrected with a ring, and one without.
  const rings = [["id 4", 0], ["id 3", 3], ["id 2", 6], ["id 1", 1]] as const;
  expect(polled(6, rings, row(4), row(3), row(2, 6), row(1, 5))).toEqual(["id 3", "id 2"]);
  expect(polled(7, rings, row(4), row(3), row(2, 7), row(1, 5))).toEqual([]);
  // What was read meanwhile is not told.
  const later = [["id 4", 8], ["id 3", 9]] as const;
  expect(polled(10, later, row(4, 8), row(3, 10, { readAt }))).toEqual(["id 4"]);
});

test("a list that has grown for weeks holds its window, and the pages that were loaded", async () => {
  const fold = new Fold(3);
  fold.load(page(4, [row(4), row(3)], "3"));
  await more(fold, page(4, [row(2), row(1)]));
  for (let sequence = 5; sequence <= 9; sequence += 1) {
    fold.apply(message(sequence, upsert(row(sequence))));
  }
  expect(ids(fold)).toEqual(["id 9", "id 8", "id 7", "id 6", "id 5"]);
  // There are more, and where they begin is not known.
  expect(fold.state).toMatchObject({ oldest: 5, nextPageToken: "" });
  fold.apply(message(10, upsert(row(4, 10))));
  expect(fold.state.rows.length).toBe(5);
});

test("what comes while a page is on its way leaves no hole above it", async () => {
  const fold = new Fold(3);
  fold.load(page(6, [row(6), row(5), row(4)], "4"));
  await more(fold, page(6, [row(3), row(2)], "2"), () => {
    fold.apply(message(7, upsert(row(7))));
    fold.apply(message(8, upsert(row(8))));
  });
  expect(ids(fold)).toEqual(["id 8", "id 7", "id 6", "id 5", "id 4"]);
  expect(fold.state).toMatchObject({ oldest: 4, nextPageToken: "" });
});

test("in a heal what is new rings, and what only changed does not", () => {
  const fold = new Fold(200);
  fold.load(page(5, [row(5)], "5"));
  const heal = (value: Notification, ring: boolean) => {
    const healed = { ...message(9, upsert(value)), position: 5, ring };
    return fold.apply(healed).ring?.id;
  };
  expect(heal(row(5, 6), false)).toBe(undefined);
  expect(heal(row(7, 7), true)).toBe("id 7");
  expect(heal(row(7, 7), true)).toBe(undefined);
  // The service says that it was only missed.
  expect(heal(row(8, 8), false)).toBe(undefined);
  expect(ids(fold)).toEqual(["id 8", "id 7", "id 5"]);
});

test("the state is the same object until something changes", () => {
  const fold = new Fold(200);
  fold.load(page(1, [row(1)]));
  const before = fold.state;
  fold.observe(head(1, 1));
  fold.apply(message(1, { kind: "heartbeat" }));
  expect(fold.state).toBe(before);
  fold.observe(head(2, 7));
  const counted = fold.state;
  expect(counted).toMatchObject({ head: head(2, 7), position: 1 });
  fold.apply(message(3, upsert(row(3))));
  expect(fold.state).toMatchObject({ head: head(3), position: 3 });
  expect(counted).toMatchObject({ head: head(2, 7), position: 1 });
  expect(fold.state.rows[1]).toBe(counted.rows[0]);
});

test("what tabs tell each other leads to the same state, and leaves rows as they are", () => {
  const fold = new Fold(200);
  fold.load(page(3, [row(3), row(2), row(1)]));
  const former = fold.state;
  let told: State = structuredClone(former);
  fold.apply(message(4, upsert(row(4))));
  fold.apply(message(5, marked(5, "id 3")));
  fold.apply(message(6, upsert(row(1, 6, { archivedAt }))));
  const change = structuredClone(changeOf(former, fold.state));
  expect(change.rows.map(({ id }) => id)).toEqual(["id 4", "id 3"]);
  const untouched = told.rows[1];
  told = after(told, change);
  expect(told).toEqual(fold.state);
  expect(told.rows[2]).toBe(untouched);
  // So does a state that comes whole.
  const whole = merged(told, structuredClone(fold.state));
  expect(whole).toEqual(fold.state);
  whole.rows.forEach((held, at) => expect(held).toBe(told.rows[at]));
});

/** What the cases of both folds say: see `src/client/fold/tests.rs` for the other one. */
interface Row {
  readonly sequence: number;
  readonly revision?: number;
  readonly read?: boolean;
  readonly archived?: boolean;
  readonly removed?: boolean;
  readonly whole?: boolean;
  readonly title?: string;
}
interface Counts {
  readonly revision?: number;
  readonly unread?: number;
  readonly unseen?: number;
  readonly seenThrough?: number;
}
interface Step extends Counts {
  readonly load?: Counts & { revision: number; more?: boolean; rows: Row[] };
  readonly apply?: Counts & {
    readonly position: number;
    readonly ring?: boolean;
    readonly connected?: string;
    readonly reset?: string;
    readonly notification?: Row;
    readonly changed?: Row[];
    readonly seen?: boolean;
    readonly caughtUp?: boolean;
    readonly heartbeat?: boolean;
  };
  readonly then?: "load";
  readonly rings?: boolean;
  readonly rows?: [number, number][];
  readonly titles?: string[];
  readonly read?: number[];
  readonly position?: number | null;
}

const rowOf = ({ sequence, revision, read, archived, title = "" }: Row) =>
  row(sequence, revision, { title, ...(read && { readAt }), ...(archived && { archivedAt }) });

function stateOf(said: Row): ChangedRow {
  const whole = rowOf(said);
  const { id, sequence, revision } = whole;
  return {
    ...{ id, sequence, revision },
    ...(said.read && { readAt }),
    ...(said.archived && { archivedAt }),
    ...(said.removed && { removedAt: archivedAt }),
    ...(said.whole && { whole }),
  };
}

function countsOf(said: Counts, revision: number): Head {
  const { unread = 0, unseen = 0, seenThrough = 0 } = said;
  return { revision, unreadCount: unread, unseenCount: unseen, seenThrough };
}

function eventOf(said: NonNullable<Step["apply"]>): StreamEvent {
  if (said.connected !== undefined) {
    return { kind: "connected", epoch: said.connected, heartbeat: 0, tokenEnds: 0 };
  }
  if (said.reset !== undefined) return { kind: "reset", epoch: said.reset };
  if (said.notification) return upsert(rowOf(said.notification));
  if (said.changed) return changed(...said.changed.map(stateOf));
  const plain = (["seen", "caughtUp", "heartbeat"] as const).find((kind) => said[kind]);
  return { kind: plain ?? "unknown" };
}

describe("the cases of both folds", () => {
  const text = readFileSync(new URL("../../../tests/folds.json", import.meta.url), "utf8");
  const cases = JSON.parse(text) as { name: string; window?: number; steps: Step[] }[];
  test.each(cases)("$name", ({ window = 100, steps }) => {
    const fold = new Fold(window);
    for (const step of steps) {
      const { load, apply } = step;
      if (load) {
        const rows = page(load.revision, load.rows.map(rowOf), load.more ? "more" : "");
        fold.load({ ...rows, head: countsOf(load, load.revision) });
      } else if (apply) {
        const { position, revision = position, ring = false } = apply;
        const message = { position, head: countsOf(apply, revision), ring, event: eventOf(apply) };
        const effect = fold.apply(message);
        expect([effect.then, !!effect.ring], JSON.stringify(step)).toEqual([
          step.then ?? "continue",
          step.rings ?? false,
        ]);
      } else {
        const { head, rows, position = null } = fold.state;
        const found = {
          rows: rows.map((held) => [held.sequence, held.revision]),
          titles: rows.map((held) => held.title),
          read: rows.filter((held) => held.readAt).map((held) => held.sequence),
          position,
          revision: head.revision,
          unread: head.unreadCount,
          unseen: head.unseenCount,
          seenThrough: head.seenThrough,
        };
        expect(found).toMatchObject(step);
      }
    }
  });
});

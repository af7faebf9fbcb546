import { describe, expect, test } from "vitest";
import { Fold } from "../src/fold.js";
import type { SubscribeResponse } from "../src/gen/doorbell/v1/notifications_pb.js";
import { createClient } from "@connectrpc/connect";
import { NotificationService } from "../src/gen/doorbell/v1/notifications_pb.js";
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

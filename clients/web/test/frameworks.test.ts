// The inbox as a ref of Vue's and as a store of Svelte's: when it begins, whose it is, and
// when it is let go.

import { expect, test, vi } from "vitest";
import { effectScope, nextTick, ref } from "vue";
import type { InboxClient, Snapshot } from "../src/index.js";
import { EMPTY } from "../src/snapshot.js";
import { useInbox as useStore } from "../src/svelte/index.js";
import { useInbox } from "../src/vue/useInbox.js";

/** An inbox that shows what it is told to. */
function scripted() {
  let snapshot: Snapshot = EMPTY;
  const listeners = new Set<(snapshot: Snapshot) => void>();
  const start = vi.fn();
  const stop = vi.fn();
  const inbox = {
    start,
    stop,
    getSnapshot: () => snapshot,
    subscribe: (listener: (snapshot: Snapshot) => void) => {
      listeners.add(listener);
      listener(snapshot);
      return () => listeners.delete(listener);
    },
  } as unknown as InboxClient;
  const set = (part: Partial<Snapshot>) => {
    snapshot = { ...snapshot, ...part };
    for (const listener of listeners) listener(snapshot);
  };
  return { inbox, start, stop, set, hearers: () => listeners.size };
}

const turn = () => new Promise((done) => setTimeout(done));

test("a ref of Vue's follows the inbox, is let go with its scope, and shows nothing of another user", async () => {
  const { inbox, start, stop, set, hearers } = scripted();
  const user = ref("ann");
  // One that is kept in a `ref` is the same inbox.
  const kept = ref(inbox);
  const scope = effectScope();
  const snapshot = scope.run(() => useInbox(kept, user));
  if (!snapshot) throw new Error("the scope is over");
  await nextTick();
  expect(start.mock.calls).toEqual([[{ user: "ann" }]]);
  set({ user: "ann", unreadCount: 3 });
  expect(snapshot.value.unreadCount).toBe(3);
  const other = effectScope();
  other.run(() => useInbox(inbox, user));
  await nextTick();
  // In the same moment, though the inbox is not told yet.
  user.value = "bob";
  expect(snapshot.value).toBe(EMPTY);
  await nextTick();
  expect(start).toHaveBeenLastCalledWith({ user: "bob" });
  set({ user: "bob", unreadCount: 1 });
  expect(snapshot.value.unreadCount).toBe(1);
  other.stop();
  await turn();
  expect(stop).not.toHaveBeenCalled();
  scope.stop();
  expect(hearers()).toBe(0);
  await turn();
  expect(stop).toHaveBeenCalledTimes(1);
});

test("a store of Svelte's begins with the first who subscribes, and is let go with the last", async () => {
  vi.stubGlobal("document", new EventTarget());
  const { inbox, start, stop, set, hearers } = scripted();
  const store = useStore(inbox, "ann");
  expect(start).not.toHaveBeenCalled();
  const told: number[] = [];
  const end = store.subscribe(({ unreadCount }) => told.push(unreadCount));
  const endOther = store.subscribe(() => undefined);
  expect(start).toHaveBeenCalledWith({ user: "ann" });
  set({ user: "ann", unreadCount: 2 });
  set({ user: "bob", unreadCount: 9 });
  expect(told).toEqual([0, 2, 0]);
  end();
  await turn();
  expect(stop).not.toHaveBeenCalled();
  endOther();
  expect(hearers()).toBe(0);
  await turn();
  expect(stop).toHaveBeenCalledTimes(1);
  // Ended twice it is ended once.
  endOther();
  await turn();
  expect(stop).toHaveBeenCalledTimes(1);
  vi.unstubAllGlobals();
});

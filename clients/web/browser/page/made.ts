// An inbox that a test makes up.

import type { Announce, Arrival, InboxClient, Notification, Preference, Selection, Snapshot } from "../../src/index.js";
import { EMPTY, EMPTY_VIEW } from "../../src/snapshot.js";

/** A notification of just now. */
function made(id: string, title: string): Notification {
  const createdAt = new Date().toISOString();
  return { id, title, type: "test", sequence: Number(id), revision: Number(id), createdAt };
}

const NONE = { subscribe: () => () => undefined, close: () => undefined };

/** Shows what it is told to, and notes what is asked of it. */
export class Scripted implements InboxClient {
  readonly calls: string[] = [];
  isFailing = false;
  #snapshot = EMPTY;
  readonly #listeners = new Set<(snapshot: Snapshot) => void>();
  readonly #announcers = new Set<Announce>();

  /** Notifications with these titles, newest first. */
  list(...titles: string[]): void {
    const notifications = titles.map((title, at) => made(String(titles.length - at), title));
    const counts = { unreadCount: titles.length, unseenCount: titles.length };
    this.set({ notifications, ...counts, isLoaded: true, status: "live" });
  }

  /** So many, with a text each. */
  fill(count: number): void {
    const titles = Array.from({ length: count }, (_, at) => `Row ${count - at}`);
    this.list(...titles);
    this.edit({ body: "A few words more, of which some are to be seen." });
  }

  /** One more comes on top. */
  add(title: string): void {
    const { notifications } = this.#snapshot;
    const id = String((notifications[0]?.sequence ?? 0) + 1);
    this.set({ notifications: [made(id, title), ...notifications] });
  }

  /** Changes each of the list. */
  edit(part: Partial<Notification>): void {
    this.set({ notifications: this.#snapshot.notifications.map((row) => ({ ...row, ...part })) });
  }

  set(part: Partial<Snapshot>): void {
    this.#snapshot = { ...this.#snapshot, ...part };
    for (const listener of this.#listeners) listener(this.#snapshot);
  }

  /** Several are told of in one go. */
  ring(...titles: string[]): void {
    for (const title of titles) this.tell([made("1", title)]);
  }

  /** How many hear what rings. */
  get hearers(): number {
    return this.#announcers.size;
  }

  /** They ring; where they are listed they are in the list already. */
  tell(rows: readonly Notification[], how: Arrival = "live", leads = true): void {
    for (const announce of this.#announcers) announce(rows, how, leads);
  }

  start = () => this.#note("start");
  stop = () => this.#note("stop");
  getSnapshot = () => this.#snapshot;

  subscribe = (listener: (snapshot: Snapshot) => void) => {
    this.#listeners.add(listener);
    listener(this.#snapshot);
    return () => this.#listeners.delete(listener);
  };

  onNotification = (announce: Announce) => {
    this.#announcers.add(announce);
    return () => this.#announcers.delete(announce);
  };

  markRead = async (which: Selection) => {
    const ids = "length" in which ? which : [];
    this.#note(`markRead ${ids.join()}`);
    const readAt = new Date().toISOString();
    const notifications = this.#snapshot.notifications.map((row) =>
      ids.includes(row.id) ? { ...row, readAt } : row,
    );
    this.set({ notifications });
  };

  markUnread = async () => this.#note("markUnread");
  archive = async (which: Selection) => this.#without("archive", which);
  unarchive = async () => this.#note("unarchive");
  remove = async (which: Selection) => this.#without("remove", which);
  archiveAll = async () => this.#note("archiveAll");

  view = () => ({ ...NONE, getSnapshot: () => EMPTY_VIEW, loadMore: async () => undefined });
  countTypes = () => ({ ...NONE, getSnapshot: () => ({}) });

  markAllRead = async () => {
    this.#note("markAllRead");
    this.edit({ readAt: new Date().toISOString() });
    this.set({ unreadCount: 0 });
  };

  markSeen = async () => this.#note("markSeen");

  preferences = async (): Promise<readonly Preference[]> => [];
  updatePreferences = async (): Promise<readonly Preference[]> => [];

  loadMore = async () => {
    this.#note("loadMore");
    this.set({ isLoadingMore: true });
    await new Promise((done) => setTimeout(done, 5));
    this.set({ isLoadingMore: false, hasMore: this.isFailing });
    if (this.isFailing) throw new Error("away");
  };

  retry = () => {
    this.#note("retry");
    this.set({ status: "connecting", error: undefined });
  };

  #without(verb: string, which: Selection): void {
    const ids = "length" in which ? which : [];
    this.#note(`${verb} ${ids.join()}`);
    this.set({ notifications: this.#snapshot.notifications.filter(({ id }) => !ids.includes(id)) });
  }

  #note(call: string): void {
    this.calls.push(call);
  }
}

// A bell over an inbox that a test makes up: what it shows, and how calls end.

import { create } from "@bufbuild/protobuf";
import { createRoot } from "react-dom/client";
import { NotificationSchema, type Notification } from "../../src/gen/doorbell/v1/notifications_pb.js";
import type { Inbox as InboxStore } from "../../src/index.js";
import { Inbox, type InboxProps } from "../../src/react/index.js";
import { EMPTY, type Snapshot } from "../../src/snapshot.js";
import "../../style.css";

/** Shows what it is told to, and notes what is asked of it. */
class Scripted implements InboxStore {
  readonly calls: string[] = [];
  isFailing = false;
  #snapshot = EMPTY;
  readonly #listeners = new Set<() => void>();
  readonly #announcers = new Set<(notification: Notification) => void>();

  /** Notifications with these titles, newest first. */
  list(...titles: string[]): void {
    const notifications = titles.map((title, at) => {
      const id = String(titles.length - at);
      return create(NotificationSchema, { id, title, type: "test" });
    });
    this.set({ notifications, unreadCount: titles.length, isLoaded: true, status: "live" });
  }

  set(part: Partial<Snapshot>): void {
    this.#snapshot = { ...this.#snapshot, ...part };
    for (const listener of this.#listeners) listener();
  }

  ring(id: string, title: string): void {
    const notification = create(NotificationSchema, { id, title, type: "test" });
    for (const announce of this.#announcers) announce(notification);
  }

  start = () => this.#note("start");
  stop = () => this.#note("stop");
  getSnapshot = () => this.#snapshot;

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  onNotification(announce: (notification: Notification) => void): () => void {
    this.#announcers.add(announce);
    return () => this.#announcers.delete(announce);
  }

  async markRead(ids: readonly string[]): Promise<void> {
    this.#note(`markRead ${ids.join()}`);
    const readAt = { $typeName: "google.protobuf.Timestamp" as const, seconds: 1n, nanos: 0 };
    const notifications = this.#snapshot.notifications.map((row) =>
      ids.includes(row.id) ? { ...row, readAt } : row,
    );
    this.set({ notifications });
  }

  async loadMore(): Promise<void> {
    this.#note("loadMore");
    this.set({ isLoadingMore: true });
    await new Promise((done) => setTimeout(done, 5));
    this.set({ isLoadingMore: false, hasMore: this.isFailing });
    if (this.isFailing) throw new Error("away");
  }

  retry(): void {
    this.#note("retry");
    this.set({ status: "connecting" });
  }

  #note(call: string): void {
    this.calls.push(call);
  }
}

declare global {
  interface Window {
    scripted: Scripted;
    /** Shows the bell with these, or takes it away. */
    render: (props: Omit<InboxProps, "inbox"> | undefined) => void;
    selected: string[];
  }
}

const inbox = new Scripted();
const root = createRoot(document.getElementById("root") ?? document.body);
window.scripted = inbox;
window.selected = [];
window.render = (props) =>
  root.render(
    <main>
      <h1>A page</h1>
      <div style={{ display: "flex", justifyContent: "flex-end" }}>
        {props && <Inbox {...props} inbox={inbox} />}
      </div>
    </main>,
  );
window.render({});

// A bell over an inbox that a test makes up: what it shows, and how calls end.

import { createRoot } from "react-dom/client";
import type { InboxClient, Notification } from "../../src/index.js";
import { Inbox, type InboxProps } from "../../src/react/index.js";
import { EMPTY, type Snapshot } from "../../src/snapshot.js";
import "../../style.css";

function notification(id: string, title: string): Notification {
  const [sequence, createdAt] = [Number(id), new Date().toISOString()];
  return { id, title, type: "test", sequence, revision: sequence, createdAt };
}

/** Shows what it is told to, and notes what is asked of it. */
class Scripted implements InboxClient {
  readonly calls: string[] = [];
  isFailing = false;
  #snapshot = EMPTY;
  readonly #listeners = new Set<(snapshot: Snapshot) => void>();
  readonly #announcers = new Set<(notification: Notification) => void>();

  /** Notifications with these titles, newest first. */
  list(...titles: string[]): void {
    const notifications = titles.map((title, at) => {
      return notification(String(titles.length - at), title);
    });
    this.set({ notifications, unreadCount: titles.length, isLoaded: true, status: "live" });
  }

  set(part: Partial<Snapshot>): void {
    this.#snapshot = { ...this.#snapshot, ...part };
    for (const listener of this.#listeners) listener(this.#snapshot);
  }

  ring(id: string, title: string): void {
    for (const announce of this.#announcers) announce(notification(id, title));
  }

  start = () => this.#note("start");
  stop = () => this.#note("stop");
  getSnapshot = () => this.#snapshot;

  subscribe = (listener: (snapshot: Snapshot) => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  onNotification = (announce: (notification: Notification) => void) => {
    this.#announcers.add(announce);
    return () => void this.#announcers.delete(announce);
  };

  markRead = async (ids: readonly string[]) => {
    this.#note(`markRead ${ids.join()}`);
    const readAt = new Date().toISOString();
    const notifications = this.#snapshot.notifications.map((row) =>
      ids.includes(row.id) ? { ...row, readAt } : row,
    );
    this.set({ notifications });
  };

  loadMore = async () => {
    this.#note("loadMore");
    this.set({ isLoadingMore: true });
    await new Promise((done) => setTimeout(done, 5));
    this.set({ isLoadingMore: false, hasMore: this.isFailing });
    if (this.isFailing) throw new Error("away");
  };

  retry = () => {
    this.#note("retry");
    this.set({ status: "connecting" });
  };

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

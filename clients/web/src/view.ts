// A list of the inbox that answers a question: it has pages of its own, and the stream that
// the inbox has keeps it in step.

import type { CallOptions, Client } from "@connectrpc/connect";
import { Asker } from "./asker.js";
import type { InboxView } from "./client.js";
import type { Page } from "./fold.js";
import { View as Shown, type NotificationService } from "./gen/doorbell/v1/notifications_pb.js";
import { List, LONGEST_PAGE, NOTHING, type Listed, type PageRequest } from "./list.js";
import { Listeners } from "./listeners.js";
import type { Notification } from "./notification.js";
import { answers, type Question } from "./question.js";
import { isWhole, sameOr, type RowChange } from "./row.js";
import { EMPTY_VIEW, type Problem, type ViewSnapshot } from "./snapshot.js";
import { pageOf } from "./wire.js";

/** What what is open on an inbox has from it. */
export interface Desk {
  readonly client: Client<typeof NotificationService>;
  readonly pageSize: number;
  readonly keepRows: number;
  readonly random: () => number;
  /** A call of this user, as long as it `isOurs`. */
  call<T>(isOurs: () => boolean, call: (options: CallOptions) => Promise<T>): Promise<T>;
  /** Whether it is known whose inbox it is. */
  isKnown(): boolean;
  /** Whether there is somebody who looks, and an inbox to ask. */
  isReady(): boolean;
  /** The rows of a list as they are shown: with what was done to them here. */
  shown(listed: Listed, isIn: (row: Notification) => boolean): readonly Notification[];
  problemOf(error: unknown): Promise<Problem>;
}

/** What is open on an inbox. */
export interface Open {
  /** The rows it has. */
  readonly rows: readonly Notification[];
  /** Takes what changed in rows; where there was a gap, there was more. */
  take(changes: readonly RowChange[], isGap: boolean): void;
  /** Shows itself anew, where anything changed. */
  changed(): void;
  /** The service is there, or somebody looks: what waits goes on. */
  wake(): void;
  /** It is another user's inbox now, or nobody's. */
  drop(): void;
}

const SHOWN = { inbox: Shown.INBOX, unread: Shown.INBOX, archived: Shown.ARCHIVED };

export class View implements Open {
  readonly #desk: Desk;
  readonly #question: Question;
  readonly #list: List;
  readonly #asker: Asker;
  readonly #listeners = new Listeners<[ViewSnapshot]>();
  #snapshot = EMPTY_VIEW;
  /** The page after these that is being loaded. */
  #loading: object | undefined;
  #epoch = "";
  /** Up to this revision the list was loaded: what changed before is in it. */
  #loaded = 0;

  constructor(desk: Desk, question: Question) {
    this.#desk = desk;
    this.#question = question;
    this.#list = new List((row) => answers(question, row), desk.keepRows);
    this.#asker = new Asker({
      random: desk.random,
      isReady: () => desk.isReady(),
      ask: (isOurs) => this.#load(isOurs),
      problemOf: (error) => desk.problemOf(error),
      changed: () => this.changed(),
    });
    this.#asker.wake();
  }

  /** What the page has of it; `close` is called when that is closed. */
  client(close: () => void): InboxView {
    return {
      getSnapshot: () => this.#snapshot,
      subscribe: (listener) => this.#listeners.add(listener, this.#snapshot),
      loadMore: () => this.#loadMore(),
      close: () => {
        this.#asker.close();
        close();
      },
    };
  }

  get rows(): readonly Notification[] {
    return this.#list.listed.rows;
  }

  take(changes: readonly RowChange[], isGap: boolean): void {
    let isLacking = isGap;
    for (const change of changes) {
      if (this.#lacks(change)) isLacking = true;
      this.#list.take(change, this.#loaded);
    }
    if (isLacking) this.#asker.refresh();
  }

  changed(): void {
    const next = this.#view();
    const keys = Object.keys(next) as (keyof ViewSnapshot)[];
    if (keys.some((key) => next[key] !== this.#snapshot[key])) {
      this.#snapshot = next;
      this.#listeners.tellWhile(() => this.#snapshot === next, next);
    }
    this.#asker.start();
  }

  wake(): void {
    this.#asker.wake();
  }

  drop(): void {
    this.#list.adopt(NOTHING);
    this.#loading = undefined;
    this.#loaded = 0;
    this.#asker.drop();
  }

  #view(): ViewSnapshot {
    const { isKnown: isLoaded, problem: error } = this.#asker;
    if (!this.#desk.isKnown()) return EMPTY_VIEW;
    if (!isLoaded) return { ...EMPTY_VIEW, error };
    const { listed } = this.#list;
    const rows = this.#desk.shown(listed, (row) => answers(this.#question, row));
    return {
      notifications: sameOr(this.#snapshot.notifications, rows),
      isLoaded,
      hasMore: listed.oldest > 0,
      isLoadingMore: this.#loading !== undefined,
      error,
    };
  }

  /** Whether a row has come here of which no list has the content. Into the inbox none
   * comes without. */
  #lacks(change: RowChange): boolean {
    const { show } = this.#question;
    const { sequence, revision } = change;
    if (isWhole(change) || change.removedAt || this.#list.find(change)) return false;
    if (sequence < this.#list.listed.oldest || revision <= this.#loaded) return false;
    if (show === "archived") return change.archivedAt !== undefined;
    return show === "unread" && !change.archivedAt && !change.readAt;
  }

  /** Loads the newest, as many as there are. */
  async #load(isOurs: () => boolean): Promise<void> {
    const list = this.#list;
    const late = list.begin();
    try {
      const limit = Math.min(Math.max(this.rows.length, this.#desk.pageSize), LONGEST_PAGE);
      const page = await this.#ask({ limit, pageToken: "" }, isOurs);
      if (!isOurs()) return;
      if (page.epoch !== this.#epoch) list.adopt(NOTHING);
      list.load(page, page.head.revision, late);
      this.#epoch = page.epoch;
      this.#loaded = page.head.revision;
    } finally {
      list.end(late);
    }
    // A page may be empty and not the last one.
    if (this.rows.length === 0) await this.#more(isOurs);
  }

  async #loadMore(): Promise<void> {
    if (this.#loading || !this.#snapshot.hasMore) return;
    const loading = {};
    this.#loading = loading;
    const { life } = this.#list;
    this.changed();
    try {
      await this.#more(() => life === this.#list.life);
    } finally {
      if (this.#loading === loading) {
        this.#loading = undefined;
        this.changed();
      }
    }
  }

  async #more(isOurs: () => boolean): Promise<void> {
    const { listed } = this.#list;
    if (listed.oldest === 0) return;
    const { pageSize } = this.#desk;
    const ask = (request: PageRequest) => this.#ask(request, isOurs);
    await this.#list.more(pageSize, ask, (page) => page.epoch === this.#epoch);
  }

  async #ask(request: PageRequest, isOurs: () => boolean): Promise<Page> {
    const { show = "inbox", types = [], about } = this.#question;
    const question = {
      ...request,
      view: SHOWN[show],
      unreadOnly: show === "unread",
      types: [...types],
      ...(about && { about }),
    };
    const { client, call } = this.#desk;
    return pageOf(await call(isOurs, (options) => client.getRecent(question, options)));
  }
}

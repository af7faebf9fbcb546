// Where an inbox has its state from: a stream of its own (`Leader`), the tab that holds
// the stream (`Follower`), or nowhere for now (`Resting`).

import type { CallOptions, Client } from "@connectrpc/connect";
import type { Arrival } from "./client.js";
import { observed, type Head, type State } from "./fold.js";
import type { NotificationService } from "./gen/doorbell/v1/notifications_pb.js";
import type { Word } from "./group.js";
import type { Notification } from "./notification.js";
import type { Diagnosis } from "./problem.js";
import type { RowChange } from "./row.js";
import type { Problem, Status } from "./snapshot.js";

/** What is known of an inbox; it goes from one source to the next. */
export interface Known {
  readonly state: State;
  readonly status: Status;
  readonly problem: Problem | undefined;
}

/** Where an inbox has its state from. */
export interface Source extends Known {
  /** Loads older ones. Rejects where that fails. */
  more(): Promise<void>;
  /** Tries again now. */
  retry(): void;
  /** Takes the head of an answer. */
  observe(head: Head): void;
  /** The service does not know its position: loads anew. */
  reload(): void;
  /** The tab was shown or hidden. */
  show(visible: boolean): void;
  /** The network came or went. */
  network(isOnline: boolean): void;
  /** There is a token. */
  offer(token: string): void;
  /** Another tab said something. */
  hear(word: Word): void;
  /** Nothing comes from it any more. It tells nobody here: who ends it does. */
  end(): void;
}

/** What a source has from the inbox that it is of. */
export interface House {
  readonly client: Client<typeof NotificationService>;
  readonly diagnosis: Diagnosis;
  readonly pageSize: number;
  readonly keepRows: number;
  readonly pollMs: number;
  readonly graceMs: number;
  readonly random: () => number;
  token(fresh: boolean): Promise<string>;
  /** A call with the token there is, and once more with another where it is refused. */
  call<T>(call: (options: CallOptions) => Promise<T>): Promise<T>;
  isVisible(): boolean;
  isOnline(): boolean;
  /** What is known changed: it is shown anew. */
  changed(): void;
  /** This changed in rows, listed or not; where there was a gap, more than that. */
  news(changes: readonly RowChange[], isGap: boolean): void;
  /** These are new: announce them. */
  ring(notifications: readonly Notification[], how: Arrival, leads: boolean): void;
  /** The state is worth keeping. */
  keep(state: State): void;
}

/** Nothing comes, and what is known stays. */
export class Resting implements Source {
  state: State;
  readonly status: Status;
  readonly problem: Problem | undefined;

  constructor({ state, status, problem }: Known) {
    this.state = state;
    this.status = status;
    this.problem = problem;
  }

  async more(): Promise<void> {
    throw new Error("the inbox is stopped");
  }
  retry(): void {}
  observe(head: Head): void {
    this.state = observed(this.state, head);
  }
  reload(): void {}
  show(): void {}
  network(): void {}
  offer(): void {}
  hear(): void {}
  end(): void {}
}

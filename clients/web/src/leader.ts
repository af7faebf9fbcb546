// The one tab that holds the stream: it folds, keeps what it has, and tells the others.

import { changeOf, type Change } from "./change.js";
import type { Arrival } from "./client.js";
import { Connection } from "./connection.js";
import { Fold, type Head, type State } from "./fold.js";
import type { Group, Ring, Word } from "./group.js";
import type { Notification } from "./notification.js";
import { isWhole, type RowChange } from "./row.js";
import type { Problem, Status } from "./snapshot.js";
import type { House, Known, Source } from "./source.js";
import { pageOf } from "./wire.js";

/** The state is kept so long after it changed: a burst is one write. */
const KEEP_MS = 200;
/** What comes within so long after a change is told as one. */
const GATHER_MS = 50;

/** What is new, and how it came. */
interface Arrived {
  readonly rows: readonly Notification[];
  readonly how: Arrival;
}

/** An inbox with a stream of its own. It begins with `start`. */
export class Leader implements Source {
  status: Status;
  problem: Problem | undefined;
  readonly #house: House;
  /** Nothing where it is alone. */
  readonly #group: Group | undefined;
  readonly #fold: Fold;
  readonly #connection: Connection;
  /** What it told is named by this and a number. */
  readonly #name = Math.random().toString(36);
  #number = 0;
  #told: State | undefined;
  /** What the connection had made of the fold when it last said so. */
  #seen: State;
  /** The list that was told of belongs to this life of the fold. */
  #life: number;
  /** To be announced in the other tabs, once they have them. */
  #rings: Ring[] = [];
  /** Whether something changed since it was last told. */
  #isBehind = false;
  #gathering: ReturnType<typeof setTimeout> | undefined;
  #keeping: ReturnType<typeof setTimeout> | undefined;
  #hiding: ReturnType<typeof setTimeout> | undefined;
  #page: Promise<void> | undefined;
  /** It may be another user's inbox now: nothing is kept, told or announced any more. */
  #hasEnded = false;

  constructor(house: House, group: Group | undefined, known: Known) {
    this.#house = house;
    this.#group = group;
    this.#fold = new Fold(house.keepRows);
    this.#fold.adopt(known.state);
    this.#life = this.#fold.life;
    this.#seen = known.state;
    this.status = known.status;
    this.problem = known.problem;
    const arrived: Arrived[] = [];
    this.#connection = new Connection({
      ...house,
      fold: this.#fold,
      changed: (status, problem) => this.#changed(status, problem, arrived.splice(0)),
      ring: (rows, how) => arrived.push({ rows, how }),
    });
  }

  get state(): State {
    return this.#fold.state;
  }

  start(): void {
    this.#connection.start(!this.#house.isVisible());
    this.#tell(true);
  }

  /** Loads older ones: once, however many tabs ask for them. */
  more(): Promise<void> {
    this.#page ??= this.#loadOlder().finally(() => (this.#page = undefined));
    return this.#page;
  }

  retry(): void {
    this.#connection.retry();
  }

  offer(token: string): void {
    this.#connection.offer(token);
  }

  observe(head: Head): void {
    this.#fold.observe(head);
    this.#changed(this.status, this.problem, []);
  }

  reload(): void {
    this.#fold.unplace();
    this.#connection.interrupt();
  }

  show(visible: boolean): void {
    clearTimeout(this.#hiding);
    // A visible tab that hears this takes the lead.
    this.#tell(false);
    if (visible) {
      this.#connection.start(false);
      this.#connection.wake();
    } else {
      this.#hiding = setTimeout(() => this.#connection.start(true), this.#house.graceMs);
    }
  }

  network(isOnline: boolean): void {
    if (isOnline) this.#connection.wake();
    else this.#connection.interrupt();
  }

  hear(word: Word): void {
    if (word.kind === "who") {
      // Those who have all but the last of it hear that first.
      if (this.#isBehind) this.#tellAll();
      this.#tell(true);
    }
    // Where it fails, who asked hears nothing, and gives up.
    if (word.kind === "more") void this.more().catch(() => undefined);
    if (word.kind === "retry") this.retry();
    if (word.kind === "reload") this.reload();
  }

  end(): void {
    this.#connection.stop();
    clearTimeout(this.#hiding);
    clearTimeout(this.#gathering);
    this.#keep();
    // Here who ends it tells it.
    if (this.#isBehind) this.#tell(false);
    this.#hasEnded = true;
  }

  /** The connection may have changed the fold or its own status. */
  #changed(status: Status, problem: Problem | undefined, arrived: Arrived[]): void {
    if (this.#hasEnded) return;
    const { state } = this;
    // A heartbeat mostly changes nothing, and nothing is written or said then.
    if (state === this.#seen && status === this.status && problem === this.problem) return;
    const isOther = status !== this.status;
    this.#seen = state;
    this.status = status;
    this.problem = problem;
    this.#isBehind = true;
    for (const { rows, how } of arrived) {
      this.#rings.push({ ids: rows.map(({ id }) => id), how });
      this.#house.ring(rows, how, true);
      // Who hears it may have switched to another user.
      if (this.#hasEnded) return;
    }
    if (isOther) this.#tellAll();
    else if (this.#gathering === undefined) this.#gather();
    this.#keeping ??= setTimeout(() => this.#keep(), KEEP_MS);
  }

  /** Tells what changed, and then waits: a replay is thousands of messages. */
  #gather(): void {
    this.#gathering = undefined;
    if (!this.#isBehind) return;
    this.#gathering = setTimeout(() => this.#gather(), GATHER_MS);
    this.#tellAll();
  }

  /** Tells everybody, here and in the other tabs. */
  #tellAll(): void {
    if (this.#hasEnded) return;
    this.#isBehind = false;
    this.#tell(false);
    this.#house.changed();
  }

  /** Tells the other tabs how it stands: all of it, or what changed since. */
  #tell(whole: boolean): void {
    if (this.#hasEnded) return;
    const group = this.#group;
    const changes = this.#fold.takeNews();
    const isGap = this.#fold.life !== this.#life;
    this.#life = this.#fold.life;
    if (isGap || changes.length > 0) this.#house.news(changes, isGap);
    const rings = this.#rings;
    this.#rings = [];
    if (!group?.leads || group.isAlone) return;
    const { state, status, problem } = this;
    const visible = this.#house.isVisible();
    const from = `${this.#name}.${this.#number}`;
    const told = this.#told;
    if (state !== told || changes.length > 0) this.#number += 1;
    this.#told = state;
    const version = `${this.#name}.${this.#number}`;
    const change = whole || !told ? undefined : changeOf(told, state);
    const news = change ? { from, change } : state;
    const others = change ? othersOf(changes, change) : [];
    const standing = { status, problem, version, news, others, isGap, rings };
    group.say({ kind: "leader", visible, ...standing });
  }

  #keep(): void {
    clearTimeout(this.#keeping);
    this.#keeping = undefined;
    if (!this.#hasEnded) this.#house.keep(this.state);
  }

  async #loadOlder(): Promise<void> {
    const { client, pageSize, call } = this.#house;
    await this.#fold.more(pageSize, async (request) =>
      pageOf(await call((options) => client.getRecent(request, options))),
    );
    this.#changed(this.status, this.problem, []);
    this.#tellAll();
  }
}

/** What changed but in the rows of the list, which tell it themselves. */
function othersOf(changes: readonly RowChange[], { rows }: Change): readonly RowChange[] {
  const told = new Map(rows.map(({ id, revision }) => [id, revision]));
  return changes.filter((change) => !isWhole(change) || told.get(change.id) !== change.revision);
}

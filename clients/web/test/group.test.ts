import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { UNKNOWN } from "../src/fold.js";
import { Group, type Browser, type Member, type Word } from "../src/group.js";
import { Channel, Locks } from "./tabs.js";

let locks: Locks;
let seats: Seat[];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  locks = new Locks();
  seats = [];
});

afterEach(() => {
  for (const seat of seats) seat.group?.leave();
  vi.useRealTimers();
});

/** A tab in the group, which answers as an inbox does. */
class Seat implements Member {
  readonly channel = new Channel("group");
  readonly led: boolean[] = [];
  readonly heard: Word[] = [];
  readonly group: Group | undefined;
  visible: boolean;

  constructor(visible = true, browser: Partial<Browser> = {}) {
    this.visible = visible;
    const channel = () => this.channel as unknown as BroadcastChannel;
    const whole = { locks: locks as unknown as LockManager, channel, ...browser };
    this.group = Group.join(whole, "group", this, visible);
    seats.push(this);
  }

  get leads(): boolean {
    return this.led.at(-1) ?? false;
  }

  lead(leads: boolean): void {
    this.led.push(leads);
    if (leads) this.speak();
  }

  hear(word: Word): void {
    this.heard.push(word);
    if (word.kind === "who" && this.leads) this.speak();
  }

  speak(): void {
    const standing = { status: "live" as const, problem: undefined, version: "1", others: [], isGap: false, rings: [] };
    this.group?.say({ kind: "leader", visible: this.visible, ...standing, news: UNKNOWN });
  }

  show(visible: boolean): void {
    this.visible = visible;
    this.group?.show(visible);
  }
}

async function pass(ms = 0): Promise<void> {
  for (const part of [0, ms, 0]) {
    await vi.advanceTimersByTimeAsync(part);
    await new Promise((done) => setImmediate(done));
  }
}

test("one leads, and the next one when it leaves", async () => {
  const [first, second] = [new Seat(), new Seat()];
  await pass(1000);
  expect([first.leads, second.leads]).toEqual([true, false]);
  first.group?.leave();
  await pass();
  expect(second.leads).toBe(true);
});

test("a tab that is shown takes it from a leader that answers nothing", async () => {
  const first = new Seat();
  await pass(1000);
  first.channel.hangs = true;
  const second = new Seat();
  await pass(300);
  expect(second.leads).toBe(false);
  await pass(200);
  expect(second.led).toEqual([true]);
});

test("a visible tab notices a leader that has gone silent, a hidden one does not mind", async () => {
  const first = new Seat();
  await pass(1000);
  const [second, hidden] = [new Seat(), new Seat(false)];
  await pass(1000);
  for (let quarter = 0; quarter < 12; quarter += 1) {
    await pass(15_000);
    first.speak();
  }
  // Whom it hears it does not ask.
  expect(first.heard.filter((word) => word.kind === "who").length).toBe(2);
  // Where nothing happens the leader is asked, and answers.
  await pass(130_000);
  expect(first.heard.filter((word) => word.kind === "who").length).toBe(4);
  expect(second.leads).toBe(false);
  first.channel.hangs = true;
  await pass(61_000);
  expect([second.leads, hidden.leads]).toEqual([true, false]);
});

test("whoever loses the lead asks who has it: a visible tab follows no hidden one", async () => {
  const first = new Seat();
  await pass(1000);
  first.channel.hangs = true;
  const second = new Seat();
  await pass(500);
  second.show(false);
  first.channel.hangs = false;
  await pass(500);
  expect([first.leads, second.leads]).toEqual([true, false]);
});

test("a leader that says twice that it is hidden loses the lead once", async () => {
  const first = new Seat();
  const second = new Seat();
  await pass(1000);
  first.visible = false;
  first.speak();
  first.speak();
  await pass(1000);
  expect(second.led).toEqual([true]);
  expect(first.led).toEqual([true, false]);
  expect(locks.asked.filter(({ steal }) => steal).length).toBe(1);
});

test("where locks are refused each tab is on its own", async () => {
  const refused = new DOMException("denied", "SecurityError");
  const refusing = { locks: { request: () => Promise.reject(refused) } };
  const [first, second] = [new Seat(true, refusing), new Seat(true, refusing)];
  await pass(1000);
  expect([first.led, second.led]).toEqual([[true], [true]]);
  first.speak();
  await pass();
  expect(second.heard).toEqual([]);
});

test("where there may be no channel there is no group", () => {
  const channel = () => {
    throw new DOMException("denied", "SecurityError");
  };
  const seat = new Seat(true, { channel });
  expect(seat.group).toBe(undefined);
  expect(seat.led).toEqual([]);
});

test("a tab knows whether it is alone", async () => {
  const first = new Seat();
  await pass(1000);
  expect(first.group?.isAlone).toBe(true);
  const second = new Seat(false);
  await pass();
  expect([first, second].map(({ group }) => group?.isAlone)).toEqual([false, false]);
  // One that took the lead from a silent tab is not, though it heard nobody.
  for (const { channel } of [first, second]) channel.hangs = true;
  const third = new Seat();
  await pass(500);
  expect(third.leads).toBe(true);
  expect(third.group?.isAlone).toBe(false);
});

// A page that uses an inbox, and its tabs: the service is in memory, and no time passes that
// a test does not let pass.

import { afterEach, beforeEach, vi } from "vitest";
import type { InboxClient, InboxOptions } from "../src/index.js";
import { makeInbox } from "../src/inbox.js";
import { Service } from "./service.js";
import { Channel, Locks, Shelf, token } from "./tabs.js";

/** Of the present test. */
export let service: Service;
let opened: InboxClient[];

beforeEach(() => {
  vi.spyOn(console, "error").mockImplementation(() => undefined);
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
  service = new Service();
  opened = [];
});

afterEach(() => {
  for (const inbox of opened) inbox.stop();
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

export function open(options: Partial<InboxOptions> = {}): InboxClient {
  const given = {
    baseUrl: "http://doorbell.test",
    getToken: () => token("ann"),
    shareTabs: false,
    persist: false,
    ...options,
  };
  const inbox = makeInbox(given, { transport: service.transport(), random: () => 0.5 });
  opened.push(inbox);
  inbox.start();
  return inbox;
}

/** Lets everything happen that happens within so many milliseconds. */
export async function pass(ms = 0): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) {
    await vi.advanceTimersByTimeAsync(ms / 10);
    // What was set off ends by itself: nothing here waits for a real clock.
    for (let more = 0; more < 5; more += 1) await new Promise((done) => setImmediate(done));
  }
}

export const titles = (inbox: InboxClient) => inbox.getSnapshot().notifications.map((row) => row.title);

/** The page that follows has these. */
export function enterPage() {
  const document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  const window = new EventTarget();
  vi.stubGlobal("document", document);
  vi.stubGlobal("window", window);
  return { document, window };
}

/** A tab: with a document of its own, and the browser that all share. */
export class Tab {
  readonly document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  readonly window = new EventTarget();
  readonly channels: Channel[] = [];
  inbox!: InboxClient;

  static async open(browser: { locks: Locks; shelf: Shelf }, user = "ann", hidden = false, options: Partial<InboxOptions> = {}) {
    const tab = new Tab();
    if (hidden) tab.document.visibilityState = "hidden";
    tab.enter(browser);
    tab.inbox = open({ shareTabs: true, persist: true, getToken: () => token(user), ...options });
    await pass();
    return tab;
  }

  /** What follows happens in this tab. */
  enter(browser: { locks: Locks; shelf: Shelf }): void {
    vi.stubGlobal("document", this.document);
    vi.stubGlobal("window", this.window);
    vi.stubGlobal("navigator", { onLine: true, locks: browser.locks });
    vi.stubGlobal("localStorage", browser.shelf);
    const { channels } = this;
    vi.stubGlobal(
      "BroadcastChannel",
      class extends Channel {
        constructor(name: string) {
          super(name);
          channels.push(this);
        }
      },
    );
  }

  show(browser: { locks: Locks; shelf: Shelf }, visible: boolean): void {
    this.enter(browser);
    this.document.visibilityState = visible ? "visible" : "hidden";
    this.document.dispatchEvent(new Event("visibilitychange"));
  }
}

export function newBrowser() {
  return { locks: new Locks(), shelf: new Shelf() };
}

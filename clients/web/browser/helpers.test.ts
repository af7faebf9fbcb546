// What a page may add to an inbox, over one that is made up: title, sound, desktop.

import type { BrowserContext, CDPSession, Page } from "playwright-core";
import { afterEach, beforeEach, expect, test } from "vitest";
import { until } from "./service.js";
import { setUp } from "./stage.js";

const stage = setUp();

/** A desktop notification, as the page made it. */
interface Note {
  readonly title: string;
  readonly tag: string;
  readonly body?: string;
  isClosed: boolean;
  click(): void;
}

declare global {
  interface Window {
    notes: Note[];
    /** How often the person was asked. */
    asked: number;
    played: string[];
    followed: string[];
    end: () => void;
    desktop: ReturnType<Window["helpers"]["desktopNotifications"]>;
  }
}

let context: BrowserContext;
let page: Page;
let devtools: CDPSession;

beforeEach(async () => {
  context = await stage.browser.newContext({ locale: "en-GB" });
  page = await context.newPage();
  await page.addInitScript(() => {
    window.notes = [];
    window.asked = 0;
    window.followed = [];
    let permission = "default";
    let hasFocus = false;
    // A headless browser shows none, and has the focus everywhere.
    document.hasFocus = () => hasFocus;
    Object.assign(window, { focus: () => (hasFocus = true) });
    class Shown {
      static get permission() {
        return permission;
      }
      static requestPermission = async () => {
        window.asked += 1;
        return (permission = "granted");
      };
      onclick: (() => void) | undefined;
      onclose: (() => void) | undefined;
      isClosed = false;
      constructor(title: string, options: object) {
        Object.assign(this, { title }, options);
        window.notes.push(this as unknown as Note);
      }
      close() {
        this.isClosed = true;
        this.onclose?.();
      }
      click() {
        this.onclick?.();
      }
    }
    Object.assign(window, { Notification: Shown });
  });
  await page.goto(`${stage.pages.url()}scripted.html`);
  devtools = await context.newCDPSession(page);
  await until("the page is there", () => quietly(() => window.scripted !== undefined));
});

afterEach(async () => {
  await context?.close();
});

/** Does it in the page; `page.evaluate` does it as if the person had clicked there. */
async function quietly<T, Given extends readonly unknown[]>(
  act: ((...given: Given) => T) | string,
  ...given: Given
): Promise<Awaited<T>> {
  const expression = `(${act.toString()})(...${JSON.stringify(given)})`;
  const how = { expression, awaitPromise: true, returnByValue: true, userGesture: false };
  const { result, exceptionDetails } = await devtools.send("Runtime.evaluate", how);
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description);
  return result.value as Awaited<T>;
}

const list = (...titles: string[]) => quietly((...given) => window.scripted.list(...given), ...titles);

/** The newest of the list ring, so many. */
const ring = (count: number, leads = true) =>
  quietly(
    (many, first) => {
      const { notifications } = window.scripted.getSnapshot();
      window.scripted.tell(notifications.slice(0, many).toReversed(), "live", first);
    },
    count,
    leads,
  );

const notes = () =>
  quietly(() => window.notes.map(({ title, isClosed }) => `${title}${isClosed ? ", gone" : ""}`));

test("the title has how many are new, and stays the page's own", async () => {
  await quietly(() => void (window.end = window.helpers.titleBadge(window.scripted)));
  expect(await page.title()).toBe("A page with a bell of its own");
  await list("two", "one");
  expect(await page.title()).toBe("(2) A page with a bell of its own");
  // The page goes on to another place, by the element and by the property.
  for (const make of [
    () => void (document.title = "Elsewhere"),
    () => {
      const title = Object.assign(document.createElement("title"), { text: "Elsewhere" });
      document.querySelector("title")?.replaceWith(title);
    },
  ]) {
    await quietly(make);
    await until("the number is back", async () => (await page.title()) === "(2) Elsewhere");
  }
  await quietly(() => window.scripted.set({ unseenCount: 100 }));
  expect(await page.title()).toBe("(99+) Elsewhere");
  await quietly(() => window.scripted.set({ unseenCount: 0 }));
  expect(await page.title()).toBe("Elsewhere");
  await quietly(() => window.scripted.set({ unseenCount: 1 }));
  await quietly(() => window.end());
  expect(await page.title()).toBe("Elsewhere");
  await quietly(() => window.scripted.set({ unseenCount: 7 }));
  expect(await page.title()).toBe("Elsewhere");
  // One takes the place of the other, and ends alone.
  const format = (title: string, unseen: number) => `${title}: ${unseen}`;
  await quietly(
    `() => {
      window.end = window.helpers.titleBadge(window.scripted);
      window.helpers.titleBadge(window.scripted, { format: ${format.toString()} });
    }`,
  );
  await until("there is one", async () => (await page.title()) === "Elsewhere: 7");
  await quietly(() => window.end());
  await quietly(() => window.scripted.set({ unseenCount: 8 }));
  expect(await page.title()).toBe("Elsewhere: 8");
});

test("a sound is heard once at a time, where the page may play, in the tab that leads", async () => {
  await quietly(() => {
    // Half a second of silence: 8000 samples a second, a byte each.
    const bytes = new Uint8Array(44 + 4000).fill(128);
    const text = (at: number, said: string) => bytes.set([...said].map((c) => c.charCodeAt(0)), at);
    const number = (at: number, value: number, size: number) => {
      for (let byte = 0; byte < size; byte += 1) bytes[at + byte] = (value >> (8 * byte)) & 255;
    };
    for (const [at, said] of [[0, "RIFF"], [8, "WAVEfmt "], [36, "data"]] as const) text(at, said);
    for (const [at, value, size] of [
      [4, 36 + 4000, 4], [16, 16, 4], [20, 1, 2], [22, 1, 2],
      [24, 8000, 4], [28, 8000, 4], [32, 1, 2], [34, 8, 2], [40, 4000, 4],
    ] as const) number(at, value, size);
    const src = URL.createObjectURL(new Blob([bytes], { type: "audio/wav" }));
    window.played = [];
    const { play } = HTMLMediaElement.prototype;
    HTMLMediaElement.prototype.play = function () {
      const playing = play.call(this);
      playing.then(
        () => {
          window.played.push("played");
          this.addEventListener("ended", () => window.played.push("ended"), { once: true });
        },
        (error: Error) => window.played.push(error.name),
      );
      return playing;
    };
    window.end = window.helpers.ringSound(window.scripted, src);
  });
  const played = () => quietly(() => window.played);
  await list("three", "two", "one");
  await ring(1);
  await until("it may not play", async () => (await played()).join() === "NotAllowedError");
  await page.locator("h1").click();
  await ring(1, false);
  await ring(1);
  await ring(3);
  await ring(1);
  await until("it has ended", async () => (await played()).includes("ended"));
  expect(await played()).toEqual(["NotAllowedError", "played", "ended"]);
  await ring(1);
  await until("it is heard again", async () => (await played()).filter((what) => what === "played").length === 2);
  await quietly(() => window.end());
  await ring(1);
  expect((await played()).filter((what) => what === "played").length).toBe(2);
});

test("on the desktop what rings shows once, while nobody looks, and goes when it is read", async () => {
  await quietly(() => {
    const navigate = (url: string) => window.followed.push(url);
    window.desktop = window.helpers.desktopNotifications(window.scripted, { navigate });
    document.querySelector("h1")?.addEventListener("click", () => void window.desktop.ask());
  });
  await list("three", "two", "one");
  await ring(1);
  expect(await notes()).toEqual([]);
  // Nobody is asked out of the blue.
  expect(await quietly(() => window.desktop.ask())).toBe("default");
  expect(await quietly(() => window.asked)).toBe(0);
  await page.locator("h1").click();
  expect(await quietly(() => [window.asked, window.desktop.permission()])).toEqual([1, "granted"]);
  await ring(2);
  // The other tabs leave it to this one.
  await ring(1, false);
  expect(await notes()).toEqual(["two", "three"]);
  expect(await quietly(() => window.notes.map(({ tag }) => tag))).toEqual(["doorbell:2", "doorbell:3"]);
  await quietly(() => window.scripted.markRead(["2"]));
  expect(await notes()).toEqual(["two, gone", "three"]);
  // A link that is none is not followed.
  for (const [actionUrl, followed] of [["javascript:alert(1)", []], ["/invoices/7", ["/invoices/7"]]] as const) {
    await quietly((url) => {
      window.notes.length = 0;
      window.scripted.list("linked");
      window.scripted.edit({ actionUrl: url });
    }, actionUrl);
    await quietly(() => void (document.hasFocus = () => false));
    await ring(1);
    await quietly(() => window.notes[0]?.click());
    expect(await notes()).toEqual(["linked, gone"]);
    expect(await quietly(() => window.followed)).toEqual(followed);
    expect((await quietly(() => window.scripted.calls)).at(-1)).toBe("markRead 1");
  }
  // Who looks at the page sees it there.
  await quietly(() => void (document.hasFocus = () => true));
  await ring(1);
  expect(await notes()).toEqual(["linked, gone"]);
  // Many at once are one.
  await list("five", "four", "three", "two", "one");
  await quietly(() => void (document.hasFocus = () => false));
  await ring(5);
  expect((await notes()).at(-1)).toBe("5 new notifications");
  await quietly(() => window.scripted.set({ unseenCount: 0 }));
  expect((await notes()).at(-1)).toBe("5 new notifications, gone");
  await ring(1);
  await quietly(() => window.desktop.close());
  expect((await notes()).at(-1)).toBe("five, gone");
  await ring(2);
  expect((await notes()).at(-1)).toBe("five, gone");
});

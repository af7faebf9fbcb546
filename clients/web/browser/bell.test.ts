// The bell by itself, over an inbox that is made up.

import type { Page } from "playwright-core";
import { afterEach, beforeEach, expect, test } from "vitest";
import { until } from "./service.js";
import { setUp } from "./stage.js";

const stage = setUp();
let page: Page;

beforeEach(async () => {
  page = await stage.browser.newPage({ locale: "en-GB" });
  await page.goto(`${stage.pages.url()}scripted.html`);
  await page.locator(".doorbell-bell").waitFor();
});

afterEach(async () => {
  await page?.close();
});

const list = (...titles: string[]) =>
  page.evaluate((given) => window.scripted.list(...given), titles);
const calls = () => page.evaluate(() => window.scripted.calls);
const focused = () => page.evaluate(() => document.activeElement?.className ?? "");
const open = () => page.locator(".doorbell-bell").click();
const panel = () => page.getByRole("dialog");

/** Lets so many frames be painted. */
async function frames(count: number): Promise<void> {
  await page.evaluate(async (left) => {
    for (; left > 0; left -= 1) await new Promise(requestAnimationFrame);
  }, count);
}

async function untilFocused(what: string): Promise<void> {
  await until(`the focus is on ${what}`, async () => (await focused()) === what);
}

test("it says that it loads, that there is nothing, and what failed", async () => {
  await open();
  await panel().getByText("Loading…").waitFor();
  await list();
  await panel().getByText("Nothing here yet.").waitFor();
  expect(await panel().getByText("Loading…").count()).toBe(0);
  await page.evaluate(() => window.scripted.set({ status: "offline" }));
  await panel().getByText("You are offline.").waitFor();
  await page.evaluate(() => window.scripted.set({ status: "reconnecting" }));
  await panel().getByText("Reconnecting…").waitFor();
  await page.evaluate(() => window.scripted.set({ status: "failed" }));
  await panel().getByRole("status").getByText("Notifications cannot be shown.").waitFor();
  await page.getByRole("button", { name: "Try again" }).click();
  expect(await calls()).toContain("retry");
  // The button is gone, and the keys still do something.
  await untilFocused("doorbell-panel");
  await page.keyboard.press("Escape");
  await untilFocused("doorbell-bell");
});

test("its texts and what an item shows are the page's to choose", async () => {
  await page.evaluate(() =>
    window.render({
      className: "mine",
      labels: { title: "Neues", bell: (count) => `${count} neu`, markRead: "Gelesen" },
      slots: { row: ({ title }) => `* ${title}` },
      onSelect: ({ title }) => window.selected.push(title),
    }),
  );
  await list("two", "one");
  await page.getByRole("button", { name: "2 neu" }).click();
  await page.getByRole("dialog", { name: "Neues" }).waitFor();
  expect(await page.locator(".doorbell.mine").count()).toBe(1);
  await page.getByRole("button", { name: "Gelesen: two" }).waitFor();
  await page.getByRole("button", { name: "* one" }).click();
  expect(await page.evaluate(() => window.selected)).toEqual(["one"]);
  expect(await calls()).toContain("markRead 1");
});

test("who opens it has seen what is new, and while it is open what comes", async () => {
  await list("two", "one");
  await page.getByRole("button", { name: "Notifications, 2 new" }).waitFor();
  const looks = async () => (await calls()).filter((call) => call === "markSeen").length;
  expect(await looks()).toBe(0);
  await open();
  await until("it is seen", async () => (await looks()) === 1);
  await page.evaluate(() => window.scripted.set({ unseenCount: 0, seenThrough: 2 }));
  await panel().getByText("2 unread").waitFor();
  await list("three", "two", "one");
  await until("it is seen, too", async () => (await looks()) === 2);
});

test("all are marked as read by one button, which goes, and its text is the page's", async () => {
  await list("two", "one");
  await open();
  await page.getByRole("button", { name: "Mark all as read" }).click();
  expect(await calls()).toContain("markAllRead");
  await untilFocused("doorbell-panel");
  expect(await panel().getByText("unread").count()).toBe(0);
  await page.evaluate(() => window.render({ labels: { markAllRead: "Alle gelesen" } }));
  await list("three");
  await page.getByRole("button", { name: "Alle gelesen" }).waitFor();
});

test("it begins with the bell, and ends with it", async () => {
  await until("it began", async () => (await calls()).includes("start"));
  await page.evaluate(() => window.render(undefined));
  await until("it ended", async () => (await calls()).includes("stop"));
});

test("older ones that do not come are not asked for again and again", async () => {
  await list("one");
  await page.evaluate(() => {
    window.scripted.isFailing = true;
    window.scripted.set({ hasMore: true });
  });
  const loads = async () => (await calls()).filter((call) => call === "loadMore").length;
  await open();
  await until("it loads", async () => (await loads()) > 0);
  await frames(60);
  expect(await loads()).toBe(1);
  const more = page.getByRole("button", { name: "Show older ones" });
  await more.click();
  await until("it loads again", async () => (await loads()) > 1);
  await frames(60);
  expect(await loads()).toBe(2);
  // With the last ones the button goes, and the focus stays in the list.
  await page.evaluate(() => (window.scripted.isFailing = false));
  await more.click();
  await more.waitFor({ state: "detached" });
  await untilFocused("doorbell-panel");
});

test("who marks one as read by its dot stays there, and moves on with the keys", async () => {
  await list("three", "two", "one");
  await open();
  await page.getByRole("button", { name: "Mark as read: three" }).focus();
  await page.keyboard.press("ArrowDown");
  await untilFocused("doorbell-open");
  const isMark = () => page.evaluate(() => document.activeElement?.matches(".doorbell-mark") === true);
  while (!(await isMark())) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  expect(await calls()).toContain("markRead 2");
  // It is the button that marks it as unread now.
  expect(await isMark()).toBe(true);
  const title = () => page.evaluate(() => document.activeElement?.textContent ?? "");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("ArrowDown");
  expect(await title()).toContain("two");
  await page.keyboard.press("ArrowDown");
  expect(await title()).toContain("one");
  await page.keyboard.press("Escape");
  await untilFocused("doorbell-bell");
});

test("what stands in the way is said, with a way to try again, and what waits to be sent", async () => {
  await list("one");
  await open();
  for (const status of ["connecting", "reconnecting", "delayed", "failed"] as const) {
    await page.evaluate((given) => {
      const error = { kind: "unreachable", message: "Nothing answers: it is down." } as const;
      window.scripted.set({ status: given, error, pendingMarks: 1 });
    }, status);
    await panel().getByText("Nothing answers: it is down.").waitFor();
    await panel().getByText("1 mark waits to be sent.").waitFor();
    await page.getByRole("button", { name: "Try again" }).click();
    await panel().getByText("Nothing answers: it is down.").waitFor({ state: "detached" });
  }
  expect((await calls()).filter((call) => call === "retry").length).toBe(4);
  // A page may say it in its own words, or not at all.
  await page.evaluate(() => {
    window.render({ labels: { problem: ({ kind }) => (kind === "csp" ? "Policy." : "") } });
    window.scripted.set({ status: "delayed", error: { kind: "csp", message: "Nothing answers." } });
  });
  await panel().getByText("Policy.").waitFor();
  expect(await panel().getByText("Nothing answers.").count()).toBe(0);
});

test("each one that comes is said, also of several at once and with the title of the last", async () => {
  const said = page.getByRole("log").locator("p");
  await page.evaluate(() => window.scripted.ring("door", "phone", "door"));
  await until("all are said", async () => (await said.count()) === 3);
  const texts = ["door", "phone", "door"].map((title) => `New notification: ${title}`);
  expect(await said.allTextContents()).toEqual(texts);
  await page.evaluate(() => {
    for (const one of document.querySelectorAll("[role=log] p")) one.setAttribute("data-former", "");
    window.scripted.ring("door");
  });
  // It is another element, and what was said already is not said again.
  const added = page.locator("[role=log] p:not([data-former])");
  await until("it is said anew", async () => (await added.count()) === 1);
  expect(await page.locator("[role=log] p[data-former]").count()).toBe(3);
});

test("times go on while the list is open", async () => {
  await page.clock.install();
  await list("one");
  await open();
  await panel().getByText("now", { exact: true }).waitFor();
  await page.clock.fastForward("05:00");
  await panel().getByText("5 minutes ago").waitFor();
  await page.clock.fastForward("02:00:00");
  await panel().getByText("2 hours ago").waitFor();
});

test("Home and End go to the ends of the list", async () => {
  await list("three", "two", "one");
  await open();
  const title = () => page.evaluate(() => document.activeElement?.textContent ?? "");
  await page.keyboard.press("End");
  expect(await title()).toContain("one");
  await page.keyboard.press("Home");
  expect(await title()).toContain("three");
  await page.keyboard.press("ArrowUp");
  expect(await title()).toContain("three");
  await page.keyboard.press("ArrowDown");
  expect(await title()).toContain("two");
});

test("it closes when the focus goes elsewhere, and nothing of it moves", async () => {
  await list("one");
  await open();
  await untilFocused("doorbell-panel");
  expect(await page.evaluate(() => document.getAnimations().length)).toBe(0);
  await page.keyboard.press("Shift+Tab");
  await page.evaluate(() => {
    const other = document.createElement("button");
    document.body.append(other);
    other.focus();
  });
  await panel().waitFor({ state: "detached" });
});

test("it is light or dark as it is told, and a page's variables hold in both", async () => {
  await list("one");
  await open();
  const colour = async (of: string, part?: string) =>
    await page.evaluate(
      ([where, pseudo]) => {
        const element = document.querySelector(where ?? "");
        return element && getComputedStyle(element, pseudo).backgroundColor;
      },
      [of, part],
    );
  const surface = () => colour(".doorbell-panel");
  const [light, dark] = ["rgb(255, 255, 255)", "rgb(27, 33, 48)"];
  await page.emulateMedia({ colorScheme: "light" });
  expect(await surface()).toBe(light);
  await page.emulateMedia({ colorScheme: "dark" });
  expect(await surface()).toBe(dark);
  await page.evaluate(() => window.render({ theme: "light" }));
  await until("it is light", async () => (await surface()) === light);
  await page.emulateMedia({ colorScheme: "light" });
  await page.evaluate(() => window.render({ theme: "dark" }));
  await until("it is dark", async () => (await surface()) === dark);
  await page.evaluate(() => window.render({}));
  await page.addStyleTag({ content: ".doorbell { --doorbell-accent: rgb(1, 2, 3) }" });
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    expect(await colour(".doorbell-dot")).toBe("rgb(1, 2, 3)");
  }
});

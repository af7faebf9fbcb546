// One bell, whichever way it comes into a page: the same is tried of React's, of the element,
// of Vue's and of Svelte's, as they were built, under a strict policy.

import type { BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Doorbell, findings, openTab, until, untilBell, untilStatus, untilUnread } from "./service.js";
import { setUp } from "./stage.js";

const KINDS = ["react", "element", "vue", "svelte"];
const NONE = "Notifications";

const stage = setUp(...KINDS.map((kind) => `kinds/${kind}`));
let doorbell: Doorbell;
let context: BrowserContext;
let people = 0;
/** Of the present test: nobody else has anything of theirs. */
let person: string;

beforeAll(async () => {
  doorbell = await Doorbell.start();
  stage.pages.policy = `default-src 'none'; script-src 'self'; style-src 'self'; connect-src ${doorbell.url}`;
});

afterAll(async () => {
  await doorbell?.stop();
});

beforeEach(async () => {
  people += 1;
  person = `person-${people}`;
  context = await stage.browser.newContext({ locale: "en-GB" });
  await context.addInitScript(() => {
    Object.assign(window, { violations: [] as string[] });
    document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
      // The browser asks for an icon by itself.
      if (blockedURI.endsWith("/favicon.ico")) return;
      (window as unknown as { violations: string[] }).violations.push(violatedDirective);
    });
  });
});

afterEach(async () => {
  const pages = context?.pages() ?? [];
  const told = pages.map((page) => page.evaluate(() => (window as unknown as { violations: string[] }).violations));
  const violations = (await Promise.all(told)).flat();
  await context?.close();
  expect(violations).toEqual([]);
});

async function send(...titles: string[]): Promise<void> {
  const to = ["--organization", "acme", "--user", person, "--type", "test"];
  const from = ["--token", doorbell.token("SENDER"), "--url", doorbell.url];
  for (const title of titles) await doorbell.run("send", ...from, ...to, "--title", title);
}

async function tab(kind: string): Promise<Page> {
  const token = await doorbell.run("token", "--organization", "acme", "--user", person);
  const url = `${stage.pages.url()}kinds/${kind}.html`;
  const page = await openTab(context, url, { baseUrl: doorbell.url, token });
  await untilStatus(page, "live");
  return page;
}

const open = (page: Page) => page.locator(".doorbell-bell").click();
const list = (page: Page) => page.getByRole("dialog");
const rows = (page: Page) => page.locator(".doorbell-item");

async function untilRows(page: Page, ...titles: string[]): Promise<void> {
  await until(`the list is ${titles.join()}`, async () => {
    const shown = await page.locator(".doorbell-item .doorbell-subject").allTextContents();
    return shown.join() === titles.join();
  });
}

describe.each(KINDS)("%s", (kind) => {
  test("what is sent rings in all tabs over one stream, the badge says how many are new", async () => {
    const [one, other] = [await tab(kind), await tab(kind)];
    await until("they share a stream", async () => (await doorbell.metric("doorbell_streams_open")) === 1);
    await send("one");
    for (const page of [one, other]) {
      await untilBell(page, "Notifications, 1 new");
      await until("the page is told", () => page.evaluate(() => window.announced.join() === "one"));
      await page.locator("output").getByText("1", { exact: true }).waitFor();
    }
    expect(await one.locator(".doorbell-badge").textContent()).toBe("1");
    expect(await one.getByRole("log").textContent()).toBe("New notification: one");
    // Who opens the list has looked, in every tab.
    await open(one);
    for (const page of [one, other]) await untilBell(page, NONE);
    // One that is chosen is the page's to follow.
    await one.getByRole("button", { name: "Unread: one" }).click();
    await until("it was chosen", () => one.evaluate(() => window.chosen.join() === "one"));
    for (const page of [one, other]) await untilUnread(page, 0);
    // Taken out of the page it lets go of the inbox, and the other goes on.
    await one.evaluate(() => window.release());
    await untilStatus(one, "idle");
    await send("two");
    await untilBell(other, "Notifications, 1 new");
  });

  test("all are read at once, one is archived and comes back, the tabs show which are where", async () => {
    await send("one", "two");
    const page = await tab(kind);
    await untilUnread(page, 2);
    await open(page);
    await untilRows(page, "two", "one");
    await page.getByRole("button", { name: "Mark all as read" }).click();
    await untilUnread(page, 0);
    await page.getByRole("tab", { name: "Unread" }).click();
    await list(page).getByText("All is read.").waitFor();
    await page.getByRole("tab", { name: "All" }).click();
    await rows(page).first().hover();
    await page.getByRole("button", { name: "Archive: two" }).click();
    await untilRows(page, "one");
    await page.getByRole("tab", { name: "Archived" }).click();
    await untilRows(page, "two");
    await page.keyboard.press("Control+z");
    await list(page).getByText("Nothing is archived.").waitFor();
    await page.getByRole("tab", { name: "All" }).click();
    await untilRows(page, "two", "one");
    // The keys go through the rows, and the focus stays when its row goes.
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Delete");
    await untilRows(page, "one");
    await page.keyboard.press("Control+z");
    await untilRows(page, "two", "one");
    await page.keyboard.press("Escape");
    await list(page).waitFor({ state: "detached" });
    // The bell has the focus.
    await page.keyboard.press("Enter");
    await list(page).waitFor();
    await page.locator("h1").click();
    await list(page).waitFor({ state: "detached" });
  });

  test("without a network it says so, and what is done is sent later", async () => {
    await send("one");
    const page = await tab(kind);
    await open(page);
    await context.setOffline(true);
    await list(page).getByText("You are offline.").waitFor();
    await page.getByRole("button", { name: "Mark as read: one" }).click();
    await list(page).getByText("1 mark waits to be sent.").waitFor();
    await context.setOffline(false);
    await untilStatus(page, "live");
    await list(page).getByText("1 mark waits to be sent.").waitFor({ state: "detached" });
    await untilUnread(page, 0);
  });

  test("from right to left it stands and goes the other way, and axe finds nothing", async () => {
    await send("one", "two");
    const page = await tab(kind);
    await page.evaluate(() => (document.documentElement.dir = "rtl"));
    await open(page);
    await untilRows(page, "two", "one");
    const [bell, panel] = [await page.locator(".doorbell-bell").boundingBox(), await list(page).boundingBox()];
    // At its end, which is its left, as far as the window goes.
    expect(Math.round(panel?.x ?? 0)).toBe(Math.max(8, Math.round(bell?.x ?? -1)));
    await page.getByRole("tab", { name: "All" }).focus();
    await page.keyboard.press("ArrowLeft");
    await page.getByRole("tab", { name: "Unread", selected: true }).waitFor();
    await page.keyboard.press("ArrowRight");
    await page.getByRole("tab", { name: "All", selected: true }).waitFor();
    expect(await findings(page)).toEqual([]);
    await page.getByRole("button", { name: "Preferences" }).click();
    await page.getByRole("switch", { name: "Tests" }).click();
    await page.getByRole("switch", { name: "Tests", checked: false }).waitFor();
    expect(await findings(page)).toEqual([]);
    // Back in the list it is the button from which one came that has the focus.
    await page.getByRole("button", { name: "Back to the list" }).click();
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Back to the list" }).waitFor();
  });
});

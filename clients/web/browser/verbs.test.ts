// What a person does in the list, against the real service.

import type { BrowserContext, Page } from "playwright-core";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Doorbell, findings, openTab, until, untilUnread } from "./service.js";
import { setUp } from "./stage.js";

const stage = setUp();
let doorbell: Doorbell;
let context: BrowserContext;
let page: Page;

beforeEach(async () => {
  doorbell = await Doorbell.start();
  await doorbell.send("alice", "one", "report");
  await doorbell.send("alice", "two", "comment");
  await doorbell.send("alice", "three", "comment");
  context = await stage.browser.newContext({ locale: "en-GB" });
  page = await tab();
  await untilUnread(page, 3);
});

afterEach(async () => {
  await context?.close();
  await doorbell?.stop();
});

async function tab(): Promise<Page> {
  return await openTab(context, stage.pages.url(), { baseUrl: doorbell.url, token: doorbell.token("ALICE") });
}

const open = (of = page) => of.locator(".doorbell-bell").click();
const titles = (of = page) => of.locator(".doorbell-item .doorbell-subject").allInnerTexts();
const untilTitles = (wanted: string[], of = page) =>
  until(`the list is ${wanted.join()}`, async () => (await titles(of)).join() === wanted.join());
const row = (title: string) => page.getByRole("listitem").filter({ hasText: title });
const button = (name: string) => page.getByRole("button", { name, exact: true });
/** What is done to a row by who points at it. */
async function press(verb: string, title: string): Promise<void> {
  await row(title).hover();
  await button(`${verb}: ${title}`).click();
}
/** What the service has, for a tab that kept nothing. */
async function untilServed(wanted: string[]): Promise<void> {
  await until(`the service has ${wanted.join()}`, async () => {
    const other = await tab();
    await until("it is loaded", () => other.evaluate(() => window.inbox?.getSnapshot().status === "live"));
    const served = await other.evaluate(() => window.inbox.getSnapshot().notifications.map((one) => one.title));
    await other.close();
    return served.join() === wanted.join();
  });
}

test("what can be done to a row shows to who points at it or has the focus there", async () => {
  await open();
  const shown = (verb: string) =>
    button(verb).evaluate((element) => Number(getComputedStyle(element).opacity));
  await page.mouse.move(0, 0);
  expect(await shown("Archive: two")).toBe(0);
  expect(await shown("Mark as read: two")).toBe(1);
  await row("two").hover();
  for (const verb of ["Archive: two", "Remove: two"]) expect(await shown(verb)).toBe(1);
  expect(await shown("Archive: three")).toBe(0);
  await page.mouse.move(0, 0);
  await page.keyboard.press("Home");
  await page.keyboard.press("Tab");
  expect(await page.evaluate(() => document.activeElement?.getAttribute("aria-label"))).toBe("Archive: three");
  expect(await shown("Archive: three")).toBe(1);
});

test("one is marked as read, and as unread again", async () => {
  await open();
  await press("Mark as read", "two");
  await untilUnread(page, 2);
  await press("Mark as unread", "two");
  await untilUnread(page, 3);
});

test("what is archived goes at once, and undo brings it back with the focus", async () => {
  await open();
  await press("Archive", "two");
  await untilTitles(["three", "one"]);
  await page.getByRole("status").getByText("1 archived.").waitFor();
  await untilServed(["three", "one"]);
  await button("Undo").click();
  await untilTitles(["three", "two", "one"]);
  await until("the row has the focus", () =>
    page.evaluate(() => document.activeElement?.matches(".doorbell-open") && document.activeElement.textContent?.includes("two")),
  );
  await untilServed(["three", "two", "one"]);
  expect(await button("Undo").count()).toBe(0);
});

test("several are brought back together, by the keys", async () => {
  await open();
  await press("Archive", "three");
  await press("Archive", "one");
  await page.getByText("2 archived.").waitFor();
  await untilTitles(["two"]);
  await page.keyboard.press("Control+Z");
  await untilTitles(["three", "two", "one"]);
});

test("what is removed is so only when it cannot be undone any more", async () => {
  await page.evaluate(() => window.choose({ undoDuration: 1500 }));
  await open();
  await press("Remove", "two");
  await untilTitles(["three", "one"]);
  await button("Undo").click();
  await untilTitles(["three", "two", "one"]);
  await press("Remove", "two");
  // It is not told before its time, and that does not run while somebody is about to undo it.
  await button("Undo").hover();
  await page.waitForTimeout(2000);
  expect(await page.evaluate(() => window.inbox.getSnapshot().notifications.length)).toBe(3);
  await page.mouse.move(0, 0);
  await button("Undo").waitFor({ state: "detached" });
  await untilServed(["three", "one"]);
});

test("what is removed is so when the list closes, and when the page goes", async () => {
  await page.evaluate(() => window.choose({ undoDuration: 60_000 }));
  await open();
  await press("Remove", "two");
  await page.keyboard.press("Escape");
  await untilServed(["three", "one"]);
  await open();
  await press("Remove", "one");
  await page.goto("about:blank");
  page = await tab();
  await open();
  await untilTitles(["three"]);
});

test("all are archived by a button that asks first", async () => {
  await open();
  await button("Archive all").click();
  await untilTitles(["three", "two", "one"]);
  await button("Really archive all?").click();
  await page.getByText("Nothing here yet.").waitFor();
  await untilServed([]);
});

test("tabs show what is unread, archived, and of some types, in step with the stream", async () => {
  await page.evaluate(() =>
    window.choose({ tabs: ["all", "unread", "archived", { id: "comments", label: "Comments", types: ["comment"] }] }),
  );
  await open();
  const tabOf = (name: string | RegExp) => page.getByRole("tab", { name });
  await tabOf("Unread , 3 unread").waitFor();
  await tabOf("Comments , 2 unread").waitFor();
  await press("Mark as read", "two");
  await tabOf("Comments , 1 unread").waitFor();
  await tabOf("Unread , 2 unread").click();
  await untilTitles(["three", "one"]);
  await press("Archive", "one");
  await untilTitles(["three"]);
  await tabOf("Comments").click();
  await untilTitles(["three", "two"]);
  await doorbell.send("alice", "four", "comment");
  await untilTitles(["four", "three", "two"]);
  await tabOf("Archived").click();
  await untilTitles(["one"]);
  expect(await findings(page)).toEqual([]);
  // From there it goes back.
  await press("Move to the inbox", "one");
  await page.getByText("Nothing is archived.").waitFor();
  await tabOf("All").click();
  await untilTitles(["four", "three", "two", "one"]);
  // Of the types of a tab alone.
  await tabOf("Comments").click();
  await button("Archive all").click();
  await button("Really archive all?").click();
  await page.getByText("Nothing here yet.").waitFor();
  await tabOf("All").click();
  await untilTitles(["one"]);
});

test("tabs are gone through by the arrow keys, and one of them has the focus", async () => {
  await page.evaluate(() => window.choose({ tabs: true }));
  await open();
  const focused = () => page.evaluate(() => document.activeElement?.textContent);
  await page.getByRole("tab", { name: "All" }).focus();
  await page.keyboard.press("ArrowLeft");
  expect(await focused()).toContain("Archived");
  await page.getByText("Nothing is archived.").waitFor();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  expect(await focused()).toContain("Unread");
  await untilTitles(["three", "two", "one"]);
  await page.keyboard.press("End");
  expect(await focused()).toContain("Archived");
  await page.keyboard.press("Home");
  expect(await focused()).toContain("All");
  const stops = () => page.locator("[role=tab][tabindex='0']").allInnerTexts();
  expect((await stops()).length).toBe(1);
  expect(await page.getByRole("tabpanel", { name: "All" }).count()).toBe(1);
  // Into the list, and in a page that is read from the right.
  await page.keyboard.press("ArrowDown");
  expect(await focused()).toContain("three");
  await page.evaluate(() => (document.documentElement.dir = "rtl"));
  await page.getByRole("tab", { name: "All" }).focus();
  await page.keyboard.press("ArrowLeft");
  expect(await focused()).toContain("Unread");
});

// All of it by the keys alone, and without a fault in each state.

import type { BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { Doorbell, findings, openTab, until, untilUnread } from "./service.js";
import { setUp } from "./stage.js";

const stage = setUp();
let doorbell: Doorbell;
let context: BrowserContext;
let page: Page;

beforeAll(async () => {
  doorbell = await Doorbell.start();
  for (const title of ["one", "two", "three", "four"]) await doorbell.send("alice", title);
});

afterAll(async () => {
  await doorbell?.stop();
});

beforeEach(async () => {
  context = await stage.browser.newContext({ locale: "en-GB", colorScheme: "dark" });
  page = await openTab(context, stage.pages.url(), { baseUrl: doorbell.url, token: doorbell.token("ALICE") });
  await untilUnread(page, 4);
  await page.evaluate(() => window.choose({ tabs: true, undoDuration: 60_000 }));
});

afterEach(async () => {
  await context?.close();
});

const press = (key: string) => page.keyboard.press(key);
/** What a screen reader calls what has the focus. */
const focused = () =>
  page.evaluate(() => {
    const element = document.activeElement;
    if (element?.matches("[role=dialog], body")) return "";
    return element?.getAttribute("aria-label") ?? element?.textContent ?? "";
  });
/** Tab, or with Shift, until the focus is there. */
async function go(to: string, key = "Tab"): Promise<void> {
  for (let left = 30; left > 0 && !(await focused()).includes(to); left -= 1) await press(key);
  expect(await focused()).toContain(to);
}
const untilFocused = (on: string) => until(`the focus is on ${on}`, async () => (await focused()).includes(on));
const rows = () => page.locator(".doorbell-item .doorbell-subject").allTextContents();
const untilRows = (...wanted: string[]) =>
  until(`the rows are ${wanted.join()}`, async () => (await rows()).join() === wanted.join());

test("all is done by the keys, and nothing of it has a fault", async () => {
  await go("Notifications");
  await press("Enter");
  await untilRows("four", "three", "two", "one");
  expect(await findings(page)).toEqual([]);
  // To a row, what can be done to it, and there again.
  await press("ArrowDown");
  await untilFocused("four");
  await press("ArrowDown");
  await go("Mark as read: three");
  await press("Enter");
  await untilUnread(page, 3);
  await untilFocused("Mark as unread: three");
  await press("Space");
  await untilUnread(page, 4);
  // What goes leaves the focus to what is in its place, and comes back with it.
  await go("Archive: three", "Shift+Tab");
  await press("Enter");
  await untilRows("four", "two", "one");
  await untilFocused("two");
  expect(await findings(page)).toEqual([]);
  await press("Control+z");
  await untilRows("four", "three", "two", "one");
  await untilFocused("three");
  await press("Delete");
  await untilRows("four", "two", "one");
  await go("Undo", "Shift+Tab");
  await press("Enter");
  await untilFocused("three");
  await untilRows("four", "three", "two", "one");
  // The last one of a list that is empty then.
  await go("Archive: three");
  await press("Enter");
  await go("All", "Shift+Tab");
  await press("ArrowRight");
  await press("ArrowRight");
  await untilRows("three");
  expect(await findings(page)).toEqual([]);
  await go("Move to the inbox: three");
  await press("Enter");
  await page.getByText("Nothing is archived.").waitFor();
  expect(await page.evaluate(() => document.activeElement?.className)).toBe("doorbell-panel");
  expect(await findings(page)).toEqual([]);
  await go("Archived");
  await press("Home");
  await untilRows("four", "three", "two", "one");
  // All at once.
  await go("Mark all as read", "Shift+Tab");
  await press("Enter");
  await untilUnread(page, 0);
  await go("Archive all");
  await press("Enter");
  await untilFocused("Really archive all?");
  await press("Tab");
  expect(await page.getByText("Really archive all?").count()).toBe(0);
  await go("Archive all", "Shift+Tab");
  await press("Enter");
  await press("Enter");
  await page.getByText("Nothing here yet.").waitFor();
  await press("Escape");
  await untilFocused("Notifications");
  expect(await page.getByRole("dialog").count()).toBe(0);
});

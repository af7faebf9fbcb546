// A finger on the list: rows are swept aside, and the list is scrolled.

import type { BrowserContext, CDPSession, Page } from "playwright-core";
import { afterEach, beforeEach, expect, test } from "vitest";
import { until } from "./service.js";
import { setUp } from "./stage.js";

const stage = setUp();
let context: BrowserContext;
let page: Page;
let touch: CDPSession;

beforeEach(async () => {
  const viewport = { width: 360, height: 640 };
  context = await stage.browser.newContext({ locale: "en-GB", hasTouch: true, isMobile: true, viewport });
  page = await context.newPage();
  touch = await context.newCDPSession(page);
  await page.goto(`${stage.pages.url()}scripted.html`);
  await page.locator(".doorbell-bell").waitFor();
  await page.evaluate(() => window.scripted.fill(30));
});

afterEach(async () => {
  await context?.close();
});

async function open(dir: "ltr" | "rtl" = "ltr"): Promise<void> {
  await page.evaluate((given) => (document.documentElement.dir = given), dir);
  await page.locator(".doorbell-bell").tap();
  await page.getByRole("dialog").waitFor();
}

/** A finger goes over a row, by so many pixels. */
async function sweep(title: string, by: number, down = 0, letGo = true): Promise<void> {
  const box = await page.locator(".doorbell-item").filter({ hasText: title }).first().boundingBox();
  if (!box) throw new Error(`there is no ${title}`);
  const from = { x: box.x + box.width / 2 - by / 2, y: box.y + box.height / 2 };
  const at = (part: number) => [{ x: from.x + by * part, y: from.y + down * part }];
  await touch.send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints: at(0) });
  for (let step = 1; step <= 10; step += 1) {
    await touch.send("Input.dispatchTouchEvent", { type: "touchMove", touchPoints: at(step / 10) });
  }
  // A finger that rests first throws nothing, and what follows is another tap.
  await page.waitForTimeout(150);
  if (letGo) await lift();
}

const lift = () => touch.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
const calls = async () => (await page.evaluate(() => window.scripted.calls)).filter((call) => /archive|remove|markRead/.test(call));
const item = (title: string) => page.locator(".doorbell-item").filter({ hasText: title }).first();

for (const dir of ["ltr", "rtl"] as const) {
  const toStart = dir === "ltr" ? -220 : 220;

  test(`to its start a row is archived, to its end removed, ${dir}`, async () => {
    await open(dir);
    await sweep("Row 29", toStart, 0, false);
    expect(await item("Row 29").getAttribute("data-swipe-label")).toBe("Archive");
    await lift();
    await until("it is archived", async () => (await calls()).join() === "archive 29");
    await page.getByText("1 archived.").waitFor();
    await sweep("Row 28", -toStart);
    await page.getByText("1 removed.").waitFor();
    expect(await page.getByText("Row 28", { exact: true }).count()).toBe(0);
    // Nothing was chosen by it.
    expect(await calls()).toEqual(["archive 29"]);
    await page.getByRole("button", { name: "Undo" }).tap();
    await page.getByText("Row 28", { exact: true }).waitFor();
  });
}

test("let go too soon it comes back, and a tap still chooses", async () => {
  await open();
  await sweep("Row 29", -60);
  const row = item("Row 29").locator(".doorbell-row");
  await until("it is back", async () => ((await row.getAttribute("style")) ?? "") === "");
  expect(await item("Row 29").getAttribute("data-swipe")).toBeNull();
  expect(await calls()).toEqual([]);
  await page.getByRole("button", { name: "Row 29" }).first().tap();
  await until("it is read", async () => (await calls()).join() === "markRead 29");
});

test("what goes up or down scrolls the list, and sweeps nothing", async () => {
  await open();
  const scrolled = () => page.locator(".doorbell-panel").evaluate((panel) => panel.scrollTop);
  await sweep("Row 28", 20, -200);
  await until("it is scrolled", async () => (await scrolled()) > 100);
  expect(await page.locator("[data-swipe]").count()).toBe(0);
  expect(await calls()).toEqual([]);
});

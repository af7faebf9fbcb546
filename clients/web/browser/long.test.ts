// A list of thousands: what of it is rendered, by counts, and that all of it can be reached.

import type { Page } from "playwright-core";
import { afterEach, beforeEach, expect, test } from "vitest";
import { until } from "./service.js";
import { setUp } from "./stage.js";

const stage = setUp();

const MANY = 5000;

let page: Page;

beforeEach(async () => {
  page = await stage.browser.newPage({ locale: "en-GB" });
  await page.goto(`${stage.pages.url()}scripted.html`);
  await page.locator(".doorbell-bell").waitFor();
  await page.evaluate((count) => {
    // A row's image is asked for whenever the row is rendered, and at no other time.
    window.render({
      slots: {
        image: ({ title }) => {
          window.rendered.push(title);
          return undefined;
        },
      },
    });
    window.scripted.fill(count);
  }, MANY);
  await page.locator(".doorbell-bell").click();
  await page.getByText(`Row ${MANY}`, { exact: true }).waitFor();
});

afterEach(async () => {
  await page?.close();
});

const rows = () => page.locator(".doorbell-item").count();
const focused = () => page.evaluate(() => document.activeElement?.textContent ?? "");
/** What is rendered because of this. */
async function renderedBy(act: () => Promise<void>): Promise<string[]> {
  await page.evaluate(async () => {
    await new Promise(requestAnimationFrame);
    window.rendered = [];
  });
  await act();
  return await page.evaluate(async () => {
    for (let left = 3; left > 0; left -= 1) await new Promise(requestAnimationFrame);
    return window.rendered;
  });
}

test("it opens with few of them, and shows more as one scrolls", async () => {
  expect(await rows()).toBeLessThan(150);
  for (let goal = 200; goal <= 600; goal += 200) {
    await until(`${goal} are there`, async () => {
      await page.locator(".doorbell-panel").evaluate((panel) => panel.scrollBy(0, 4000));
      return (await rows()) > goal;
    });
  }
  const order = await page.locator(".doorbell-subject").allTextContents();
  expect(order.slice(0, 300)).toEqual(Array.from({ length: 300 }, (_, at) => `Row ${MANY - at}`));
});

for (const all of [false, true]) {
  test(`what changes is one row, and one row is rendered, ${all ? "all" : "few"} being there`, async () => {
    if (all) {
      await page.keyboard.press("End");
      await until("all are there", async () => (await rows()) === MANY);
    }
    expect(await renderedBy(() => page.evaluate(() => window.scripted.add("Fresh")))).toEqual(["Fresh"]);
    const mark = page.locator(`[aria-label="Mark as read: Row ${MANY}"]`);
    // A press that does not move the pointer or scroll.
    const press = () => mark.evaluate((button: HTMLElement) => button.click());
    expect(await renderedBy(press)).toEqual([`Row ${MANY}`]);
    const counts = () => page.evaluate(() => window.scripted.set({ unreadCount: 17, status: "reconnecting" }));
    expect(await renderedBy(counts)).toEqual([]);
    const archive = page.locator(`[aria-label="Archive: Row ${MANY - 1}"]`);
    // Of those below it the next one comes into what is rendered.
    const archived = await renderedBy(() => archive.evaluate((button: HTMLElement) => button.click()));
    expect(archived.length).toBeLessThanOrEqual(1);
  });
}

test("a page that renders again with the same renders no row", async () => {
  const again = () =>
    page.evaluate(() => {
      const slots = { image: window.slots?.image };
      window.render({ slots, labels: { title: "Again" }, onSelect: () => undefined, navigate: () => undefined });
    });
  await page.evaluate(() => {
    window.slots = { image: ({ title }) => void window.rendered.push(title) };
  });
  await again();
  expect(await renderedBy(again)).toEqual([]);
});

test("time goes on for those that say another, and renders no row", async () => {
  await page.close();
  page = await stage.browser.newPage({ locale: "en-GB" });
  await page.clock.install();
  await page.goto(`${stage.pages.url()}scripted.html`);
  await page.locator(".doorbell-bell").waitFor();
  await page.evaluate(() => {
    window.render({ slots: { image: ({ title }) => void window.rendered.push(title) } });
    window.scripted.fill(20);
  });
  await page.locator(".doorbell-bell").click();
  await page.getByText("Row 20", { exact: true }).waitFor();
  await page.evaluate(() => (window.rendered = []));
  await page.clock.fastForward("05:00");
  await until("all say it", async () => (await page.getByText("5 minutes ago").count()) === 20);
  expect(await page.evaluate(() => window.rendered)).toEqual([]);
});

test("the keys reach both ends, and go by pages", async () => {
  await page.keyboard.press("PageDown");
  const first = await focused();
  await page.keyboard.press("PageDown");
  const second = await focused();
  const numberOf = (text: string) => Number(/Row (\d+)/.exec(text)?.[1]);
  expect(numberOf(first)).toBeLessThan(MANY - 1);
  expect(numberOf(first) - numberOf(second)).toBeGreaterThan(2);
  await page.keyboard.press("PageUp");
  expect(numberOf(await focused())).toBeGreaterThan(numberOf(second));
  await page.keyboard.press("End");
  await until("the last has the focus", async () => /Row 1A/.test(await focused()));
  expect(await rows()).toBe(MANY);
  const isSeen = await page.evaluate(() => {
    const [row, panel] = [document.activeElement, document.querySelector(".doorbell-panel")].map((element) =>
      element?.getBoundingClientRect(),
    );
    return row && panel && row.top >= panel.top && row.bottom <= panel.bottom + 1;
  });
  expect(isSeen).toBe(true);
  await page.keyboard.press("Home");
  expect(await focused()).toContain(`Row ${MANY}`);
});

test("what comes while one is further down is told of by a way back to the top", async () => {
  const news = page.getByRole("button", { name: /^\d+ new$/ });
  const panel = page.locator(".doorbell-panel");
  await page.evaluate(() => window.scripted.add("At the top"));
  expect(await news.count()).toBe(0);
  await panel.evaluate((element) => element.scrollTo(0, 600));
  await page.evaluate(() => new Promise(requestAnimationFrame));
  expect(await news.count()).toBe(0);
  await page.evaluate(() => ["one", "two", "three"].forEach((title) => window.scripted.add(title)));
  expect(await news.innerText()).toBe("3 new");
  await news.click();
  expect(await focused()).toContain("three");
  await until("it goes", async () => (await news.count()) === 0);
  expect(await panel.evaluate((element) => element.scrollTop)).toBe(0);
});

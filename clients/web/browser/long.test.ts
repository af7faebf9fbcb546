// A list of thousands: what of it is rendered, by counts, and that all of it can be reached.

import { loadavg } from "node:os";
import type { Page } from "playwright-core";
import { afterEach, beforeEach, expect, test } from "vitest";
import { findings, until } from "./service.js";
import { setUp } from "./stage.js";

const stage = setUp();

const MANY = 5000;
/** More are never in the document: those that are seen, as many above and below, and some. */
const MOST = 40;

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
});

afterEach(async () => {
  await page?.close();
});

async function open(): Promise<void> {
  await page.locator(".doorbell-bell").click();
  await page.getByText(`Row ${MANY}`, { exact: true }).waitFor();
}

/** Texts of different lengths, so that no row is as high as the next. */
async function vary(): Promise<void> {
  await page.evaluate(() => {
    const { notifications } = window.scripted.getSnapshot();
    const vary = (row: (typeof notifications)[0]) => ({ ...row, body: "Some words. ".repeat(1 + (row.sequence % 8) ** 2) });
    window.scripted.set({ notifications: notifications.map(vary) });
  });
}

const panel = () => page.locator(".doorbell-panel");
const rows = () => page.locator(".doorbell-item").count();
const focused = () => page.evaluate(() => document.activeElement?.textContent ?? "");
const focusedRow = async () => Number(/Row (\d+)/.exec(await focused())?.[1]);
const frames = () =>
  page.evaluate(async () => {
    for (let left = 3; left > 0; left -= 1) await new Promise(requestAnimationFrame);
  });
const scrollTo = async (part: number) => {
  await panel().evaluate((element, to) => element.scrollTo(0, element.scrollHeight * to), part);
  await frames();
};

interface Seen {
  /** Those of the rows that are seen, from above. */
  readonly numbers: readonly number[];
  /** Where the first of them begins. */
  readonly top: number;
  /** Whether there is no room between or around them. */
  readonly isFilled: boolean;
}

async function seen(): Promise<Seen> {
  return await page.evaluate(() => {
    const box = (of: string) => document.querySelector(of)?.getBoundingClientRect() ?? new DOMRect();
    const [upper, lower] = [box(".doorbell-top").bottom, box(".doorbell-panel").bottom - 1];
    const rows = [...document.querySelectorAll(".doorbell-item")].map((row) => ({
      number: Number(/Row (\d+)/.exec(row.textContent ?? "")?.[1]),
      box: row.getBoundingClientRect(),
    }));
    const visible = rows.filter((row) => row.box.bottom > upper + 1 && row.box.top < lower);
    const [first, last] = [visible[0]?.box, visible.at(-1)?.box];
    return {
      numbers: visible.map(({ number }) => number),
      top: first?.top ?? 0,
      isFilled: first !== undefined && last !== undefined && first.top <= upper + 1 && last.bottom >= lower - 1,
    };
  });
}

const topOf = (number: number) =>
  page.locator(`.doorbell-item[data-id="${number}"]`).evaluate((row) => row.getBoundingClientRect().top);

/** Rows fill the panel, one after the other, and few more are there than are seen. */
async function untilFilled(): Promise<readonly number[]> {
  const numbers = await until("rows fill the panel", async () => {
    const { isFilled, numbers } = await seen();
    return isFilled ? numbers : undefined;
  });
  expect(numbers).toEqual(numbers.map((_, at) => (numbers[0] ?? 0) - at));
  expect(await rows()).toBeLessThan(MOST);
  return numbers;
}

/** What the focus is on is seen whole: nothing of it is above or below what is seen. */
async function expectFocusSeen(): Promise<void> {
  const [above, below] = await page.evaluate(() => {
    const box = (element: Element | null | undefined) => element?.getBoundingClientRect() ?? new DOMRect();
    const row = box(document.activeElement?.closest(".doorbell-item"));
    const [head, all] = [box(document.querySelector(".doorbell-top")), box(document.querySelector(".doorbell-panel"))];
    return [head.bottom - row.top, row.bottom - all.bottom] as const;
  });
  expect(above).toBeLessThanOrEqual(1);
  expect(below).toBeLessThanOrEqual(1);
}

/** Prints what it takes, which is what this machine is like now, and no test's matter. */
async function measure(what: string, act: string): Promise<void> {
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const busy = async () => {
    const { metrics } = await session.send("Performance.getMetrics");
    return (metrics.find(({ name }) => name === "TaskDuration")?.value ?? 0) * 1000;
  };
  const before = await busy();
  const took = await page.evaluate(async (key) => {
    const start = performance.now();
    const target = key ? document.activeElement : document.querySelector<HTMLElement>(".doorbell-bell");
    if (key) target?.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    else (target as HTMLElement).click();
    // What is posted in a frame is taken up once that is painted.
    await new Promise(requestAnimationFrame);
    const { port1, port2 } = new MessageChannel();
    await new Promise((done) => {
      port1.onmessage = done;
      port2.postMessage(0);
    });
    return performance.now() - start;
  }, act);
  const ms = (value: number) => `${value.toFixed(0)} ms`;
  console.log(`${what}: ${ms(took)} to the frame, ${ms((await busy()) - before)} busy, load ${loadavg()[0]}`);
}

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

test("it opens with few of them, once", async () => {
  await measure(`opening ${MANY} rows`, "");
  await frames();
  expect(await page.evaluate(() => window.rendered.length)).toBeLessThan(MOST / 2);
  expect(await page.evaluate(() => new Set(window.rendered).size === window.rendered.length)).toBe(true);
  await untilFilled();
  for (let time = 1; time <= 3; time += 1) {
    await page.keyboard.press("Escape");
    await panel().waitFor({ state: "detached" });
    await measure(`opening them again`, "");
  }
});

test("each end, and what is between, is there at once with few rows, for who hears them too", async () => {
  await vary();
  await open();
  await page.evaluate(() => (window.rendered = []));
  for (const [key, first] of [["End", 1], ["Home", MANY], ["End", 1]] as const) {
    await measure(`${key} in ${MANY} rows`, key);
    await until(`the focus is on row ${first}`, async () => (await focusedRow()) === first);
    const numbers = await untilFilled();
    expect(numbers.at(key === "End" ? -1 : 0)).toBe(first);
    await expectFocusSeen();
  }
  expect(await page.evaluate(() => window.rendered.length)).toBeLessThan(3 * MOST);
  for (const part of [0.5, 0.51, 0.2, 0.9, 1, 0]) {
    await scrollTo(part);
    await untilFilled();
  }
  await scrollTo(0.5);
  const [number = 0] = await untilFilled();
  const heard = page.locator(`.doorbell-item[data-id="${number}"]`);
  expect(await heard.getAttribute("aria-posinset")).toBe(String(MANY - number + 1));
  expect(await heard.getAttribute("aria-setsize")).toBe(String(MANY));
  expect(await findings(page)).toEqual([]);
  // How many there are is not known while older ones are to be loaded.
  await page.evaluate(() => window.scripted.set({ hasMore: true }));
  expect(await heard.getAttribute("aria-setsize")).toBe("-1");
});

test("it scrolls without a jump, down and up, and never has many of them", async () => {
  await vary();
  await open();
  const step = async (by: number) => {
    const { numbers } = await seen();
    // One that is seen before and after.
    const stays = numbers.at(by > 0 ? -1 : 0) ?? 0;
    const before = await topOf(stays);
    await panel().evaluate((element, down) => element.scrollBy(0, down), by);
    await frames();
    expect(Math.abs(before - (await topOf(stays)) - by)).toBeLessThanOrEqual(1);
    await untilFilled();
  };
  for (let left = 20; left > 0; left -= 1) await step(100);
  // To where no row was rendered before, and from there back.
  await scrollTo(0.4);
  await untilFilled();
  for (let left = 20; left > 0; left -= 1) await step(-100);
});

test("what comes, goes or changes above what is seen moves nothing of it", async () => {
  await open();
  await scrollTo(0.5);
  const before = await seen();
  const expectSame = async () => {
    await frames();
    const { numbers, top } = await seen();
    expect(numbers).toEqual(before.numbers);
    expect(Math.abs(top - before.top)).toBeLessThanOrEqual(1);
  };
  const fresh = await renderedBy(() =>
    page.evaluate(() => {
      for (let at = 0; at < 100; at += 1) window.scripted.add(`Fresh ${at}`);
    }),
  );
  expect(fresh).toEqual([]);
  await expectSame();
  await page.evaluate(() => {
    const { notifications } = window.scripted.getSnapshot();
    window.scripted.set({ notifications: notifications.filter(({ sequence }) => sequence % 50 !== 0 || sequence < 3000) });
  });
  await expectSame();
  // One that is rendered, out of sight, and grows.
  await page.locator(".doorbell-item .doorbell-subject").first().evaluate((subject) => (subject.textContent += " word".repeat(200)));
  await expectSame();
});

test("what comes in the moment in which one scrolls does not take that back", async () => {
  await open();
  await scrollTo(0.5);
  const [number = 0] = await untilFilled();
  const before = await topOf(number);
  await panel().evaluate((element) => {
    element.scrollBy(0, 30);
    window.scripted.add("Fresh");
  });
  await frames();
  expect(Math.abs(before - (await topOf(number)) - 30)).toBeLessThanOrEqual(1);
  // All at once, as far as it goes.
  await panel().evaluate((element) => {
    element.scrollTo(0, element.scrollHeight);
    window.scripted.add("Fresh");
  });
  expect((await untilFilled()).at(-1)).toBe(1);
});

test("a row that has the focus stays, however far one scrolls, and the keys go on from it", async () => {
  await open();
  for (let left = 3; left > 0; left -= 1) await page.keyboard.press("ArrowDown");
  expect(await focusedRow()).toBe(MANY - 2);
  for (const part of [0.3, 0.6]) {
    await scrollTo(part);
    await untilFilled();
    expect(await focusedRow()).toBe(MANY - 2);
  }
  await page.keyboard.press("ArrowDown");
  expect(await focusedRow()).toBe(MANY - 3);
  await untilFilled();
  await expectFocusSeen();
  // Its buttons, and then the next row.
  await scrollTo(0.6);
  await until("it is the next row", async () => {
    await page.keyboard.press("Tab");
    return (await focusedRow()) === MANY - 4;
  });
  await untilFilled();
});

test("what was removed and is brought back has the focus, wherever one is then", async () => {
  await open();
  for (let left = 3; left > 0; left -= 1) await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Delete");
  await until("the next one has the focus", async () => (await focusedRow()) === MANY - 3);
  await page.keyboard.press("End");
  expect(await focusedRow()).toBe(1);
  await page.keyboard.press("Control+z");
  await until("it is back", async () => (await focusedRow()) === MANY - 2);
  await untilFilled();
  await expectFocusSeen();
});

for (const where of ["top", "end"]) {
  test(`what changes is one row, and one row is rendered, at the ${where}`, async () => {
    await open();
    if (where === "end") await page.keyboard.press("End");
    await untilFilled();
    const one = where === "end" ? 2 : MANY - 1;
    const fresh = await renderedBy(() => page.evaluate(() => window.scripted.add("Fresh")));
    // What is far from what is seen is not rendered at all.
    expect(fresh).toEqual(where === "end" ? [] : ["Fresh"]);
    const mark = page.locator(`[aria-label="Mark as read: Row ${one}"]`);
    // A press that does not move the pointer or scroll.
    const press = () => mark.evaluate((button: HTMLElement) => button.click());
    expect(await renderedBy(press)).toEqual([`Row ${one}`]);
    const counts = () => page.evaluate(() => window.scripted.set({ unreadCount: 17, status: "reconnecting" }));
    expect(await renderedBy(counts)).toEqual([]);
    const archive = page.locator(`[aria-label="Archive: Row ${one}"]`);
    // Of those beside it the next one comes into what is rendered.
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
  await open();
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
    window.scripted.fill(8);
  });
  await page.locator(".doorbell-bell").click();
  await page.getByText("Row 8", { exact: true }).waitFor();
  await page.evaluate(() => (window.rendered = []));
  await page.clock.fastForward("05:00");
  await until("all say it", async () => (await page.getByText("5 minutes ago").count()) === 8);
  expect(await page.evaluate(() => window.rendered)).toEqual([]);
});

test("the keys go by pages, through all of them", async () => {
  await vary();
  await open();
  const press = async (key: string) => {
    await page.keyboard.press(key);
    await expectFocusSeen();
    return await focusedRow();
  };
  let last = await press("PageDown");
  expect(last).toBeLessThan(MANY);
  for (let left = 12; left > 0; left -= 1) {
    const next = await press("PageDown");
    expect(last - next).toBeGreaterThan(0);
    expect(last - next).toBeLessThan(10);
    last = next;
  }
  expect(MANY - last).toBeGreaterThan(15);
  await press("End");
  expect(await press("PageDown")).toBe(1);
  last = await press("PageUp");
  for (let left = 12; left > 0; left -= 1) {
    const next = await press("PageUp");
    expect(next).toBeGreaterThan(last);
    last = next;
  }
  await untilFilled();
  expect(await press("Home")).toBe(MANY);
  expect(await panel().evaluate((element) => element.scrollTop)).toBe(0);
});

test("what comes while one is further down is told of by a way back to the top", async () => {
  const news = page.getByRole("button", { name: /^\d+ new$/ });
  await open();
  await page.evaluate(() => window.scripted.add("At the top"));
  expect(await news.count()).toBe(0);
  await panel().evaluate((element) => element.scrollTo(0, 600));
  await page.evaluate(() => new Promise(requestAnimationFrame));
  expect(await news.count()).toBe(0);
  await page.evaluate(() => ["one", "two", "three"].forEach((title) => window.scripted.add(title)));
  expect(await news.innerText()).toBe("3 new");
  await news.click();
  expect(await focused()).toContain("three");
  await until("it goes", async () => (await news.count()) === 0);
  expect(await panel().evaluate((element) => element.scrollTop)).toBe(0);
});

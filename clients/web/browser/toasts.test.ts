// Toasts by themselves and beside the bell, over an inbox that is made up.

import type { Page } from "playwright-core";
import { afterEach, beforeEach, expect, test } from "vitest";
import { findings, show, until } from "./service.js";
import { setUp } from "./stage.js";

const stage = setUp();
let page: Page;

beforeEach(async () => {
  page = await stage.browser.newPage({ locale: "en-GB" });
  await page.goto(`${stage.pages.url()}scripted.html`);
  await page.evaluate(() => window.render(undefined, { duration: 60_000 }));
  // The toasts themselves, and who says it; the bell is gone.
  await untilHearers(2);
});

afterEach(async () => {
  await page?.close();
});

const untilHearers = (count: number) =>
  until("it listens", () => page.evaluate((wanted) => window.scripted.hearers === wanted, count));

/** These come, the last one last: they are listed, and ring. */
async function ring(...titles: string[]): Promise<void> {
  await page.evaluate((given) => {
    const held = window.scripted.getSnapshot().notifications.map(({ title }) => title);
    window.scripted.list(...given.toReversed(), ...held);
    window.scripted.tell(window.scripted.getSnapshot().notifications.slice(0, given.length).toReversed());
  }, titles);
}

const toasts = () => page.locator(".doorbell-toast .doorbell-subject").allInnerTexts();
const untilToasts = (...titles: string[]) =>
  until(`there are ${titles.join(", ")}`, async () => (await toasts()).join() === titles.join());
const focused = () => page.evaluate(() => document.activeElement?.textContent ?? "");
const calls = () => page.evaluate(() => window.scripted.calls);

test("what rings is shown for a while, the newest first and no more than so many", async () => {
  await page.evaluate(() => window.render(undefined, { duration: 1500, most: 2 }));
  await ring("one");
  await untilToasts("one");
  await ring("two", "three");
  await untilToasts("three", "two");
  await page.getByRole("region", { name: "New notifications" }).waitFor();
  await untilToasts();
  expect(await page.getByRole("region", { name: "New notifications" }).count()).toBe(0);
});

test("nothing goes and nothing moves below the pointer or the focus", async () => {
  await page.evaluate(() => window.render(undefined, { duration: 1000, most: 2 }));
  await ring("one");
  await page.locator(".doorbell-toast").hover();
  await ring("two");
  await new Promise((wait) => setTimeout(wait, 1500));
  expect(await toasts()).toEqual(["one"]);
  await page.mouse.move(0, 0);
  await untilToasts("two", "one");
  await untilToasts();
  await ring("three");
  await page.locator(".doorbell-toast .doorbell-open").focus();
  await new Promise((wait) => setTimeout(wait, 1500));
  expect(await toasts()).toEqual(["three"]);
  await page.evaluate(() => (document.activeElement as HTMLElement).blur());
  await untilToasts();
});

test("a toast is dismissed by its button and by Escape, and the focus goes on, then back", async () => {
  await page.evaluate(() => {
    document.querySelector("h1")!.innerHTML = "<button>Before</button>";
  });
  await page.getByRole("button", { name: "Before" }).focus();
  await ring("one", "two", "three");
  await untilToasts("three", "two", "one");
  await page.keyboard.press("Tab");
  expect(await focused()).toContain("three");
  await page.keyboard.press("Escape");
  await untilToasts("two", "one");
  expect(await focused()).toContain("two");
  await page.getByRole("button", { name: "Dismiss: two" }).click();
  await untilToasts("one");
  expect(await focused()).toContain("one");
  await page.keyboard.press("Escape");
  await untilToasts();
  expect(await focused()).toBe("Before");
  // It is not read by that, and not held when the last one is gone.
  expect(await calls()).not.toContain("markRead 1");
  await page.evaluate(() => window.render(undefined, { duration: 300 }));
  await ring("four");
  await untilToasts("four");
  await untilToasts();
});

test("what is chosen is read, and a link leads where the page says or nowhere", async () => {
  await page.evaluate(() => {
    const navigate = (url: string) => window.selected.push(url);
    window.render(undefined, { navigate, onSelect: ({ title }) => window.selected.push(title) });
  });
  await ring("linked");
  await page.evaluate(() =>
    window.scripted.edit({
      actionUrl: "/invoices/7",
      body: "Of today",
      actions: [
        { label: "Pay", url: "https://pay.example/7", isPrimary: true },
        { label: "Trick", url: "javascript:alert(1)", isPrimary: false },
      ],
    }),
  );
  expect(await page.locator(".doorbell-toast a").allInnerTexts()).toEqual(["linked\nOf today", "Pay"]);
  await page.getByRole("link", { name: "linked" }).click();
  await untilToasts();
  expect(await page.evaluate(() => window.selected)).toEqual(["linked", "/invoices/7"]);
  expect(await calls()).toContain("markRead 1");
  await ring("unlinked");
  await page.evaluate(() => window.scripted.edit({ actionUrl: "/\\evil.example" }));
  await page.getByRole("button", { name: "unlinked" }).first().click();
  expect(await page.evaluate(() => window.selected.at(-1))).toBe("unlinked");
  expect(page.url()).toContain("scripted.html");
});

test("what is read elsewhere or taken back goes, and what comes to a hidden page is left to the list", async () => {
  await page.evaluate(() => {
    Object.assign(window, {
      show: (visible: boolean) =>
        Object.defineProperty(document, "visibilityState", {
          configurable: true,
          value: visible ? "visible" : "hidden",
        }),
    });
  });
  await ring("one", "two", "three");
  await untilToasts("three", "two", "one");
  await page.evaluate(() => window.scripted.markRead(["2"]));
  await untilToasts("three", "one");
  // Unread again it is no news; and one is retracted.
  await page.evaluate(() => {
    const { notifications } = window.scripted.getSnapshot();
    const unread = notifications.map(({ readAt: _, ...row }) => row);
    window.scripted.set({ notifications: unread.filter(({ title }) => title !== "one") });
  });
  await untilToasts("three");
  await page.evaluate(() => window.scripted.list("three", "two", "one"));
  await show(page, false);
  await ring("four");
  await show(page, true);
  await ring("five");
  await untilToasts("five", "three");
});

test("nothing is said twice, with the bell and without", async () => {
  const said = () => page.getByRole("log").getByText("New notification: one").count();
  await ring("one");
  await until("it is said", async () => (await said()) === 1);
  await page.evaluate(() => window.render({}, {}));
  await untilHearers(3);
  await page.evaluate(() => {
    const [row] = window.scripted.getSnapshot().notifications;
    window.scripted.tell([{ ...row!, title: "two" }]);
  });
  await page.getByRole("log").getByText("New notification: two").first().waitFor({ state: "attached" });
  expect(await page.getByRole("log").getByText("New notification: two").count()).toBe(1);
  // Who spoke first is gone, and the other one speaks.
  await page.evaluate(() => window.render({}));
  await untilHearers(1);
  await page.evaluate(() => {
    const [row] = window.scripted.getSnapshot().notifications;
    window.scripted.tell([{ ...row!, title: "three" }]);
  });
  await page.getByRole("log").getByText("New notification: three").waitFor({ state: "attached" });
});

for (const dir of ["ltr", "rtl"]) {
  test(`it stands in the window and has no faults, ${dir}`, async () => {
    await page.setViewportSize({ width: 320, height: 480 });
    await page.evaluate((given) => (document.documentElement.dir = given), dir);
    await page.emulateMedia({ reducedMotion: "reduce" });
    await ring("a title that is long enough to need several lines of a narrow window ".repeat(5), "two", "three");
    await page.locator(".doorbell-toast").nth(2).waitFor();
    const box = await page.locator(".doorbell-toasts").boundingBox();
    expect(box!.x).toBeGreaterThanOrEqual(0);
    expect(box!.x + box!.width).toBeLessThanOrEqual(320);
    expect(box!.y).toBeGreaterThanOrEqual(0);
    expect(box!.y + box!.height).toBeLessThanOrEqual(480);
    await page.setViewportSize({ width: 1000, height: 600 });
    const wide = (await page.locator(".doorbell-toasts").boundingBox())!;
    expect(Math.round(dir === "rtl" ? wide.x : 1000 - wide.x - wide.width)).toBe(16);
    const animation = await page.locator(".doorbell-toast").first().evaluate((toast) => getComputedStyle(toast).animationName);
    expect(animation).toBe("none");
    expect(await findings(page)).toEqual([]);
  });
}

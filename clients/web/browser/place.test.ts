// Where the bell may stand: its list is in the window and readable in every one.

import type { BrowserContextOptions, Page } from "playwright-core";
import { expect, test } from "vitest";
import { findings } from "./service.js";
import { setUp } from "./stage.js";

const stage = setUp();

const LONG = "Bob commented on a plan with quite a long name, which takes two lines or three";
const HEBREW = "דנה הגיבה על התוכנית שלך (v2)";
const UNBROKEN = "https://example.com/" + "a-very-long-word".repeat(8);

/** A page with a bell, and its list opened. */
async function opened(
  options: BrowserContextOptions,
  css: string,
  dir: "ltr" | "rtl" = "ltr",
): Promise<Page> {
  const page = await stage.browser.newPage({ locale: "en-GB", ...options });
  page.setDefaultTimeout(5_000);
  await page.goto(`${stage.pages.url()}scripted.html`);
  await page.evaluate(
    ([direction = "", ...titles]) => {
      document.documentElement.dir = direction;
      document.head.append(document.createElement("style"));
      window.scripted.list(...titles);
      window.scripted.edit({ body: "A few words more, of which some are to be seen." });
    },
    [dir, LONG, HEBREW, UNBROKEN, "Your report is ready", "Four", "Five", "Six", "Seven"],
  );
  await stand(page, css);
  return page;
}

/** Where the bell stands from now on; its list is opened there. */
async function stand(page: Page, css: string): Promise<void> {
  await page.keyboard.press("Escape");
  await page.evaluate((given) => {
    const style = document.querySelector("head > style:last-child");
    if (style) style.textContent = given;
  }, css);
  await page.locator(".doorbell-bell").click();
  await page.getByRole("dialog").waitFor();
}

/** The panel is in the window, whole, and nothing lies upon it. */
async function expectWhole(page: Page): Promise<void> {
  const found = await page.evaluate(async () => {
    // What the browser has yet to tell the page comes with the next frames.
    for (let left = 2; left > 0; left -= 1) await new Promise(requestAnimationFrame);
    const panel = document.querySelector(".doorbell-panel");
    const { left, top, right, bottom } = panel?.getBoundingClientRect() ?? new DOMRect();
    const { clientWidth, clientHeight } = document.documentElement;
    const inside = 3;
    const corners = [
      [left + inside, top + 20],
      [right - inside, top + 20],
      [left + inside, bottom - 20],
      [right - inside, bottom - 20],
      [(left + right) / 2, (top + bottom) / 2],
    ] as const;
    return {
      isInside: left >= 0 && top >= 0 && right <= clientWidth && bottom <= clientHeight,
      isOnTop: corners.every(([x, y]) => panel?.contains(document.elementFromPoint(x, y))),
      isWide: right - left >= Math.min(300, clientWidth - 20),
      isHigh: bottom - top >= Math.min(150, clientHeight - 20),
      isScrolledSideways: (panel?.scrollWidth ?? 0) > (panel?.clientWidth ?? 0),
    };
  });
  expect(found).toEqual({
    isInside: true,
    isOnTop: true,
    isWide: true,
    isHigh: true,
    isScrolledSideways: false,
  });
}

const WIDE = { width: 1000, height: 700 };
const SPOTS = {
  start: "#place { justify-content: flex-start }",
  middle: "#place { justify-content: center }",
  end: "#place { justify-content: flex-end }",
  // In a bar that cuts and moves what is in it, under something that lies on top.
  bar: `#place { overflow: hidden; transform: translateZ(0); height: 3rem }
    #root::after { content: ""; position: fixed; inset: 10rem 0 0; z-index: 99999; background: #eee }`,
  sidebar: "#place { position: fixed; inset: auto auto 0 0; width: 4rem; justify-content: center }",
  corner: "#place { position: fixed; inset: auto 0 0 auto }",
};
const WINDOWS: Record<string, BrowserContextOptions> = {
  wide: { viewport: WIDE },
  narrow: { viewport: { width: 320, height: 568 } },
  // What is left of a window at 200 %, and of a small one at 400 %.
  zoomed: { viewport: { width: 500, height: 350 }, deviceScaleFactor: 2 },
  tiny: { viewport: { width: 320, height: 200 }, deviceScaleFactor: 4 },
};

for (const [name, window] of Object.entries(WINDOWS)) {
  for (const dir of ["ltr", "rtl"] as const) {
    test(`the list is whole wherever the bell stands: ${name}, ${dir}`, async () => {
      const page = await opened(window, "", dir);
      for (const [spot, css] of Object.entries(SPOTS)) {
        await stand(page, css);
        await expectWhole(page);
        await page.screenshot({ path: `browser/shots/place-${name}-${dir}-${spot}.png` });
      }
      await page.close();
    });
  }
}

test("it stays at the bell while the page is scrolled, and in the window", async () => {
  const page = await opened(
    { viewport: WIDE },
    "#root { padding-block: 100px 2000px } #place { justify-content: flex-start }",
  );
  const distance = () =>
    page.evaluate(() => {
      const [bell, panel] = [".doorbell-bell", ".doorbell-panel"].map(
        (name) => document.querySelector(name)?.getBoundingClientRect() ?? new DOMRect(),
      );
      return (panel?.top ?? 0) - (bell?.bottom ?? 0);
    });
  expect(await distance()).toBe(8);
  await page.mouse.move(900, 20);
  for (const by of [100, 1500]) {
    await page.evaluate((pixels) => window.scrollBy(0, pixels), by);
    await expectWhole(page);
    if (by === 100) expect(await distance()).toBe(8);
  }
  await page.setViewportSize({ width: 320, height: 400 });
  await expectWhole(page);
  await page.close();
});

test("what people wrote has its own direction, in a page of either", async () => {
  for (const dir of ["ltr", "rtl"] as const) {
    const page = await opened({ viewport: WIDE }, "", dir);
    const directions = await page.evaluate(() =>
      [...document.querySelectorAll(".doorbell-subject")]
        .slice(0, 2)
        .map((element) => getComputedStyle(element).direction),
    );
    expect(directions).toEqual(["ltr", "rtl"]);
    await page.close();
  }
});

const STATES = {
  list: {},
  loading: { notifications: [], isLoaded: false, status: "connecting" },
  empty: { notifications: [], unreadCount: 0 },
  more: { hasMore: true },
  loadingMore: { hasMore: true, isLoadingMore: true },
  offline: { status: "offline", pendingMarks: 2 },
  away: {
    status: "reconnecting",
    error: { kind: "unreachable", message: `${UNBROKEN} cannot be reached: it is down.` },
    pendingMarks: 1,
  },
  delayed: {
    status: "delayed",
    error: { kind: "held", message: "Something on the way holds streams back." },
  },
  failed: { status: "failed", error: { kind: "refused", message: "The token is refused." } },
} as const;
const LOOKS: Record<string, BrowserContextOptions> = {
  light: { viewport: WIDE, colorScheme: "light" },
  dark: { viewport: WIDE, colorScheme: "dark" },
  narrow: { viewport: { width: 320, height: 568 }, colorScheme: "light" },
  forced: { viewport: WIDE, forcedColors: "active", reducedMotion: "reduce" },
};

for (const [name, look] of Object.entries(LOOKS)) {
  test(`it is readable in every state: ${name}`, async () => {
    for (const dir of ["ltr", "rtl"] as const) {
      const page = await opened(look, "", dir);
      for (const [state, part] of Object.entries(STATES)) {
        await page.evaluate((given) => {
          window.scripted.list("Your report is ready", "Bob commented on your plan");
          window.scripted.set({ hasMore: false, isLoadingMore: false, pendingMarks: 0 });
          window.scripted.set({ error: undefined, ...given });
        }, part);
        await expectWhole(page);
        expect(await findings(page), `${state}, ${dir}`).toEqual([]);
        await page.screenshot({ path: `browser/shots/state-${name}-${dir}-${state}.png` });
      }
      await page.close();
    }
  });
}

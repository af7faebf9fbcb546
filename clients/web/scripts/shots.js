// Pictures of the bell in its states, into browser/shots/bell: `node scripts/shots.js`.

import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { chromium } from "playwright-core";
import { createServer } from "vite";

const root = resolve(import.meta.dirname, "..");
const shots = join(root, "browser/shots/bell");
mkdirSync(shots, { recursive: true });
const server = await createServer({ configFile: false, root: join(root, "browser/page"), logLevel: "error" });
await server.listen();
const url = `${server.resolvedUrls.local[0]}scripted.html`;
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });

const WIDE = { viewport: { width: 760, height: 640 } };
const LOOKS = {
  light: { ...WIDE, colorScheme: "light" },
  dark: { ...WIDE, colorScheme: "dark" },
  forced: { ...WIDE, forcedColors: "active" },
  narrow: { viewport: { width: 320, height: 568 }, hasTouch: true, isMobile: true },
  rtl: { ...WIDE, colorScheme: "light" },
};
const open = (page) => page.locator(".doorbell-bell").click();
const STATES = {
  list: open,
  tabs: async (page) => {
    await page.evaluate(() => window.render({ tabs: true }));
    await open(page);
  },
  hover: async (page) => {
    await open(page);
    await page.locator(".doorbell-item").nth(1).hover();
  },
  focus: async (page) => {
    await open(page);
    await page.keyboard.press("ArrowDown");
  },
  opened: async (page) => {
    await page.locator(".doorbell-bell").focus();
    await page.keyboard.press("Enter");
  },
  undo: async (page) => {
    await open(page);
    await page.locator(".doorbell-item").nth(1).hover();
    await page.getByRole("button", { name: /^Archive: / }).nth(1).click({ force: true });
  },
  swipe: async (page) => {
    await open(page);
    await page.evaluate(() => {
      const row = document.querySelectorAll(".doorbell-item")[1];
      const { left, top, width } = row.getBoundingClientRect();
      const to = (type, x) =>
        row.querySelector(".doorbell-main").dispatchEvent(
          new PointerEvent(type, {
            bubbles: true, pointerId: 1, pointerType: "touch", isPrimary: true, clientX: x, clientY: top + 20,
          }),
        );
      Element.prototype.setPointerCapture = () => undefined;
      to("pointerdown", left + width * 0.8);
      to("pointermove", left + width * 0.3);
    });
  },
  news: async (page) => {
    await page.setViewportSize({ ...page.viewportSize(), height: 420 });
    await open(page);
    await page.locator(".doorbell-panel").evaluate((panel) => panel.scrollTo(0, 150));
    await page.waitForTimeout(100);
    await page.evaluate(() => {
      const { notifications } = window.scripted.getSnapshot();
      const fresh = [3, 2, 1].map((by) => ({ ...notifications[0], id: `n${by}`, sequence: 100 + by }));
      window.scripted.set({ notifications: [...fresh, ...notifications] });
    });
  },
  empty: async (page) => {
    await page.evaluate(() => window.scripted.list());
    await open(page);
  },
  failed: async (page) => {
    await page.evaluate(() => {
      const error = { kind: "cors", message: "The page's origin is not in DOORBELL_CORS_ORIGINS." };
      window.scripted.set({ status: "failed", error });
    });
    await open(page);
  },
};

for (const [look, options] of Object.entries(LOOKS)) {
  for (const [state, act] of Object.entries(STATES)) {
    const page = await browser.newPage({ locale: "en-GB", ...options });
    await page.goto(url);
    await page.locator(".doorbell-bell").waitFor();
    await page.evaluate((dir) => {
      document.documentElement.dir = dir;
      window.scripted.list(
        "Bob commented on “Launch plan”",
        "Your report is ready",
        "Invoice 1042 is overdue",
        "דנה הגיבה על התוכנית שלך",
        "Welcome to Acme",
        "Deploy of api finished",
      );
      const { notifications } = window.scripted.getSnapshot();
      const age = [0.2, 4, 70, 1500, 9000, 90000];
      const more = [
        {
          body: "I think the second milestone is too close to the holidays. Could we move it by a week, and tell the people of sales before they promise it to anybody? I have put the dates that would work into the document.",
          actionUrl: "/plans/7",
          imageUrl: "data-is-refused",
          actions: [
            { label: "Reply", url: "/reply", isPrimary: true },
            { label: "Open the plan", url: "/plans/7", isPrimary: false },
          ],
        },
        { body: "The quarterly numbers, as a PDF." },
        { readAt: new Date().toISOString() },
        { body: "אני חושבת שזה מוכן" },
        { readAt: new Date().toISOString(), body: "Good to have you here." },
        { readAt: new Date().toISOString() },
      ];
      window.scripted.set({
        unreadCount: 3,
        unseenCount: 128,
        notifications: notifications.map((row, at) => ({
          ...row,
          ...more[at],
          createdAt: new Date(Date.now() - age[at] * 60_000).toISOString(),
        })),
      });
    }, look === "rtl" ? "rtl" : "ltr");
    await act(page);
    await page.waitForTimeout(250);
    await page.screenshot({ path: join(shots, `${state}-${look}.png`) });
    await page.close();
  }
}
await browser.close();
await server.close();
console.log(shots);

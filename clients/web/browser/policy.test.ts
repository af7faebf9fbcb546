// A page with a strict Content-Security-Policy, as the README gives it.

import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { expect, test } from "vitest";
import { Doorbell, openBrowser, openTab, Pages, until, untilBell, untilUnread } from "./service.js";

test("the bell works under the policy of the README, and breaks it nowhere", async () => {
  const [doorbell, pages, browser] = await Promise.all([
    Doorbell.start(),
    Pages.start("index"),
    openBrowser(),
  ]);
  try {
    await doorbell.send("alice", "Your report is ready");
    const readme = readFileSync(resolve(import.meta.dirname, "../README.md"), "utf8");
    const given = [...readme.matchAll(/`((?:connect|script)-src[^`]+)`/g)].map(([, text]) => text);
    expect(given.length).toBe(2);
    pages.policy = `default-src 'none'; ${given.join("; ")}`
      .replace(/\s+/g, " ")
      .replace("https://doorbell.example.com", doorbell.url);
    const context = await browser.newContext({ locale: "en-GB" });
    await context.addInitScript(() => {
      Object.assign(window, { violations: [] as string[] });
      document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
        // The browser asks for an icon by itself.
        if (blockedURI.endsWith("/favicon.ico")) return;
        (window as unknown as { violations: string[] }).violations.push(violatedDirective);
      });
    });
    const page = await openTab(context, pages.url(), {
      baseUrl: doorbell.url,
      token: doorbell.token("ALICE"),
    });
    await untilBell(page, "Notifications, 1 new");
    await page.locator(".doorbell-bell").click();
    await page.getByRole("button", { name: "Mark as read: Your report is ready" }).click();
    await untilUnread(page, 0);
    await page.evaluate(() => window.choose({ preferences: { test: "Tests" } }));
    await page.getByRole("button", { name: "Preferences" }).click();
    await page.getByRole("switch", { name: "Tests" }).click();
    await page.getByRole("switch", { name: "Tests", checked: false }).waitFor();
    const position = await page.evaluate(() => {
      const panel = document.querySelector(".doorbell-panel");
      return panel && getComputedStyle(panel).position;
    });
    expect(position).toBe("fixed");
    // It is in force: what it does not allow is refused, and nothing else was.
    await page.evaluate(() => void fetch("http://127.0.0.1:9/").catch(() => undefined));
    const violations = await until("the refusal is told", async () => {
      const told = await page.evaluate(() => (window as unknown as { violations: string[] }).violations);
      return told.length > 0 && told;
    });
    expect(violations).toEqual(["connect-src"]);
  } finally {
    await browser.close();
    pages.stop();
    await doorbell.stop();
  }
});

// Somebody else signs in while the page stays.

import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { Doorbell, openTab, untilUnread } from "./service.js";
import { setUp } from "./stage.js";

const stage = setUp();
let doorbell: Doorbell;
let page: Page;

beforeAll(async () => {
  doorbell = await Doorbell.start();
  for (let count = 1; count <= 5; count += 1) await doorbell.send("alice", `Alice's ${count}`);
  await doorbell.send("bob", "Bob's own");
});

afterAll(async () => {
  await doorbell?.stop();
});

beforeEach(async () => {
  const context = await stage.browser.newContext({ locale: "en-GB" });
  page = await openTab(context, stage.pages.url(), { baseUrl: doorbell.url });
  await become("alice");
  await untilUnread(page, 5);
  await page.locator(".doorbell-bell").click();
  await page.getByText("Alice's 5").waitFor();
});

afterEach(async () => {
  await page?.context().close();
});

/** Signs in; answers with what the page shows when that is done, before anything else. */
async function become(user: "alice" | "bob"): Promise<string> {
  const token = doorbell.token(user.toUpperCase());
  return await page.evaluate(
    ([who = "", theirs = ""]) => {
      window.become(who, theirs);
      const label = document.querySelector(".doorbell-bell")?.getAttribute("aria-label");
      return `${label}: ${document.body.innerText}`;
    },
    [user, token],
  );
}

for (const isKeyed of [true, false]) {
  test(`nothing of a former user is shown, ${isKeyed ? "with" : "without"} a key`, async () => {
    await page.evaluate((given) => (window.isKeyed = given), isKeyed);
    const shown = await become("bob");
    expect(shown).toContain("Notifications: ");
    expect(shown).not.toContain("Alice");
    await untilUnread(page, 1);
    if (isKeyed) await page.locator(".doorbell-bell").click();
    await page.getByText("Bob's own").waitFor();
    expect(await page.getByText("Alice's").count()).toBe(0);
    // And back: hers is there again.
    expect(await become("alice")).not.toContain("Bob's own");
    await untilUnread(page, 5);
  });
}

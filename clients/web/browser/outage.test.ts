// The service goes away while the list is open, and comes back.

import { expect, test } from "vitest";
import { Doorbell, openBrowser, openTab, Pages, untilBell } from "./service.js";

test("an outage is said with its reason, and a mark made meanwhile is sent when it is over", async () => {
  const [doorbell, pages, browser] = await Promise.all([
    Doorbell.start(),
    Pages.start("index"),
    openBrowser(),
  ]);
  try {
    await doorbell.send("alice", "Your report is ready");
    const context = await browser.newContext({ locale: "en-GB" });
    const given = { baseUrl: doorbell.url, token: doorbell.token("ALICE") };
    const page = await openTab(context, pages.url(), given);
    await untilBell(page, "Notifications, 1 new");
    await page.locator(".doorbell-bell").click();
    const panel = page.getByRole("dialog");
    await untilBell(page, "Notifications");
    await doorbell.kill();
    await panel.getByText("Reconnecting…").waitFor();
    await panel.getByText(`${doorbell.url} cannot be reached`).waitFor();
    await page.getByRole("button", { name: "Mark as read: Your report is ready" }).click();
    await panel.getByText("1 mark waits to be sent.").waitFor();
    // The count is the service's own.
    await panel.getByText("1 unread").waitFor();
    await doorbell.restart();
    // As the button does, which is gone where it has come back by itself.
    await page.evaluate(() => window.inbox.retry());
    await panel.getByText("1 unread").waitFor({ state: "detached" });
    await panel.getByText("1 mark waits to be sent.").waitFor({ state: "detached" });
    await panel.getByText("cannot be reached").waitFor({ state: "detached" });
    expect(await page.getByRole("button", { name: "Mark as read" }).count()).toBe(0);
  } finally {
    await browser.close();
    pages.stop();
    await doorbell.stop();
  }
});

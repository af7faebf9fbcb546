// What a person wants, chosen in the bell, against the real service.

import type { BrowserContext, Page, Route } from "playwright-core";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Doorbell, findings, openTab, until, untilUnread } from "./service.js";
import { setUp } from "./stage.js";

const GET = "**/doorbell.v1.PreferenceService/GetPreferences";
const UPDATE = "**/doorbell.v1.PreferenceService/UpdatePreferences";

const stage = setUp();
let doorbell: Doorbell;
let context: BrowserContext;
let page: Page;

beforeEach(async () => {
  doorbell = await Doorbell.start();
  await doorbell.send("alice", "one", "comment");
  context = await stage.browser.newContext({ locale: "en-GB" });
  page = await openTab(context, stage.pages.url(), { baseUrl: doorbell.url, token: doorbell.token("ALICE") });
  await untilUnread(page, 1);
});

afterEach(async () => {
  await context?.close();
  await doorbell?.stop();
});

/** What the organization says. */
const say = (...words: string[]) => {
  const who = ["--token", doorbell.token("SENDER"), "--url", doorbell.url, "--organization", "acme"];
  return doorbell.run("type-defaults", ...who, ...words);
};
const choose = (preferences: boolean | Record<string, string>) =>
  page.evaluate((given) => window.choose({ tabs: true, preferences: given }), preferences);
const button = (name: string) => page.getByRole("button", { name, exact: true });
const lever = (name: string) => page.getByRole("switch", { name, exact: true });
/** They are there once the service has answered, which is after the panel opens. */
const untilSwitches = (...names: string[]) =>
  until(`the switches are ${names}`, async () => {
    return (await page.getByRole("switch").allTextContents()).join() === names.join();
  });
const untilOn = (name: string, on: boolean) =>
  until(`${name} is ${on ? "on" : "off"}`, async () => {
    return (await lever(name).getAttribute("aria-checked")) === String(on);
  });
const focused = () =>
  page.evaluate(() => {
    const element = document.activeElement;
    return element?.getAttribute("aria-label") ?? element?.className ?? "";
  });
const untilFocused = (on: string) => until(`the focus is on ${on}`, async () => (await focused()) === on);

async function open(): Promise<void> {
  await page.locator(".doorbell-bell").click();
  await button("Preferences").click();
  await page.getByRole("dialog", { name: "Preferences" }).waitFor();
}

test("there is no way to them where the page does not ask for it", async () => {
  await page.locator(".doorbell-bell").click();
  await page.getByText("one").waitFor();
  expect(await button("Preferences").count()).toBe(0);
  await choose(false);
  expect(await button("Preferences").count()).toBe(0);
  // Asked for while the list is open, it is there; and goes with what it has opened.
  await choose(true);
  await button("Preferences").click();
  await page.getByText("There is nothing to choose.").waitFor();
  await choose(false);
  await page.getByRole("dialog", { name: "Notifications" }).getByText("one").waitFor();
});

test("a type that is turned off is not sent, and turned on again it is", async () => {
  await choose({ comment: "Comments", invoice: "Invoices" });
  await open();
  await untilSwitches("Comments", "Invoices");
  const isSent = async () => {
    const to = ["--organization", "acme", "--user", "alice", "--type", "comment", "--title", "two"];
    const said = await doorbell.run("send", "--token", doorbell.token("SENDER"), "--url", doorbell.url, ...to);
    return !said.startsWith("not sent");
  };
  const saved = page.waitForResponse(UPDATE);
  await lever("Comments").click();
  await untilOn("Comments", false);
  await saved;
  expect(await isSent()).toBe(false);
  // Nothing that is there was touched, and it is so for who opens them anew.
  await button("Back to the list").click();
  await page.getByText("one").waitFor();
  await page.reload();
  await untilUnread(page, 1);
  await choose(true);
  await open();
  await untilSwitches("comment");
  await untilOn("comment", false);
  const again = page.waitForResponse(UPDATE);
  await lever("comment").click();
  await untilOn("comment", true);
  await again;
  expect(await isSent()).toBe(true);
  await untilUnread(page, 2);
});

test("what everybody has is on, says why, and cannot be turned off", async () => {
  await say("--required", "security", "--off", "digest");
  await choose({ security: "Security" });
  await open();
  await untilOn("Security", true);
  await untilOn("digest", false);
  expect(await lever("Security").isDisabled()).toBe(true);
  await page.getByRole("switch", { disabled: true }).getByText("Everybody gets these.").waitFor();
  const described = await lever("Security").evaluate((element) => {
    return document.getElementById(element.getAttribute("aria-describedby") ?? "")?.textContent;
  });
  expect(described).toBe("Everybody gets these.");
  const asked: string[] = [];
  page.on("request", (request) => asked.push(request.url()));
  await lever("Security").click({ force: true });
  await untilOn("Security", true);
  await lever("digest").click();
  await untilOn("digest", true);
  await until("it is saved", () => asked.some((url) => url.endsWith("UpdatePreferences")));
  expect(asked.filter((url) => url.endsWith("UpdatePreferences")).length).toBe(1);
  expect(await findings(page)).toEqual([]);
});

test("all of it is done by the keys", async () => {
  await say("--required", "security");
  await choose({ comment: "Comments", security: "Security" });
  const press = (key: string) => page.keyboard.press(key);
  await page.locator(".doorbell-bell").focus();
  await press("Enter");
  await untilFocused("doorbell-panel");
  await press("Tab");
  await untilFocused("Preferences");
  await press("Enter");
  await page.getByRole("dialog", { name: "Preferences" }).waitFor();
  await untilFocused("doorbell-panel");
  await lever("Comments").waitFor();
  await press("Tab");
  await untilFocused("Back to the list");
  await press("Tab");
  expect(await lever("Comments").evaluate((element) => element === document.activeElement)).toBe(true);
  await press("Space");
  await untilOn("Comments", false);
  await press("Enter");
  await untilOn("Comments", true);
  await press("Tab");
  // Why it cannot be turned off is told there.
  expect(await lever("Security").evaluate((element) => element === document.activeElement)).toBe(true);
  await press("Space");
  await untilOn("Security", true);
  // The keys of the list do nothing here.
  for (const key of ["ArrowDown", "Delete", "Control+z"]) await press(key);
  await press("Shift+Tab");
  await press("Shift+Tab");
  await untilFocused("Back to the list");
  await press("Enter");
  await page.getByRole("dialog", { name: "Notifications" }).getByText("one").waitFor();
  await untilFocused("Preferences");
  await press("ArrowDown");
  await untilFocused("doorbell-open");
  await press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  // Opened again it is the list, and the focus is not where it was left.
  await press("Enter");
  await untilFocused("doorbell-panel");
  await press("Tab");
  await press("Enter");
  await page.getByRole("dialog", { name: "Preferences" }).waitFor();
  await press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
});

test("it says that it loads, what failed and that there is nothing, without a fault", async () => {
  let held: Route | undefined;
  await context.route(GET, (route) => {
    held = route;
  });
  await choose(true);
  await open();
  await page.getByText("Loading…").waitFor();
  expect(await findings(page)).toEqual([]);
  await until("it has asked", () => held);
  await held?.abort();
  await context.unroute(GET);
  await page.getByRole("status").getByText("Preferences cannot be shown.").waitFor();
  expect(await findings(page)).toEqual([]);
  await button("Try again").click();
  await page.getByText("There is nothing to choose.").waitFor();
  // The button is gone, and the keys still do something.
  await untilFocused("doorbell-panel");
  expect(await findings(page)).toEqual([]);
});

test("a switch that the service does not take goes back, and says so", async () => {
  await context.route(UPDATE, (route) => route.abort());
  await choose({ comment: "Comments", invoice: "Invoices" });
  await open();
  await lever("Comments").click();
  await page.getByRole("status").getByText("Comments: this could not be saved.").waitFor();
  await untilOn("Comments", true);
  expect(await findings(page)).toEqual([]);
  await context.unroute(UPDATE);
  let held: Route | undefined;
  await context.route(UPDATE, (route) => {
    held = route;
  });
  await lever("Comments").click();
  // At once, and nothing is said any more.
  await untilOn("Comments", false);
  expect(await page.getByText("could not be saved").count()).toBe(0);
  await until("it is sent", () => held);
  await held?.continue();
  await page.waitForResponse(UPDATE);
  await untilOn("Comments", false);
  await untilOn("Invoices", true);
});

test("what could not be loaded is once the service is there again", async () => {
  await doorbell.kill();
  await choose(true);
  await open();
  await page.getByRole("status").getByText("Preferences cannot be shown.").waitFor();
  await doorbell.restart();
  await button("Try again").click();
  await page.getByText("There is nothing to choose.").waitFor();
});

test("nobody is shown what another user wants", async () => {
  await page.evaluate((token) => window.become("alice", token), doorbell.token("ALICE"));
  await choose(true);
  await open();
  await page.evaluate(() => window.inbox.updatePreferences([{ type: "secret", on: false }]));
  await button("Back to the list").click();
  await button("Preferences").click();
  await lever("secret").waitFor();
  await page.evaluate((token) => window.become("bob", token), doorbell.token("BOB"));
  expect(await lever("secret").count()).toBe(0);
  await page.getByRole("dialog", { name: "Notifications" }).waitFor();
});

test("in a page from right to left it stands the other way round", async () => {
  await page.evaluate(() => document.documentElement.setAttribute("dir", "rtl"));
  await choose({ comment: "תגובות", invoice: "Invoices" });
  await open();
  await lever("תגובות").click();
  await untilOn("תגובות", false);
  const middle = (selector: string) =>
    page.locator(selector).first().evaluate((element) => {
      const { left, width } = element.getBoundingClientRect();
      return left + width / 2;
    });
  const panel = await middle(".doorbell-panel");
  expect(await middle(".doorbell-back")).toBeGreaterThan(panel);
  expect(await middle(".doorbell-track")).toBeLessThan(panel);
  for (const name of ["תגובות", "Invoices"]) {
    const right = await page.getByText(name).evaluate((element) => element.getBoundingClientRect().right);
    expect(right).toBeGreaterThan(panel + 100);
  }
  // What is on has its knob at the end, which is on the left.
  const knob = (name: string) =>
    lever(name).evaluate((element) => {
      const { marginLeft, marginRight } = getComputedStyle(element.querySelector(".doorbell-track")!, "::before");
      return [marginLeft, marginRight];
    });
  await until("the knob has moved", async () => (await knob("תגובות")).join() === "0px,0px");
  expect(await knob("Invoices")).toEqual(["0px", "16px"]);
  expect(await findings(page)).toEqual([]);
});

test("its texts are the page's, and so is the way to it from a head of its own", async () => {
  await page.evaluate(() =>
    window.choose({
      preferences: { comment: "Kommentare" },
      labels: {
        ...{ preferences: "Einstellungen", back: "Zurück", required: "Für alle." },
        notSaved: (name) => `${name}: nicht gespeichert.`,
      },
      slots: {
        header: ({ openPreferences }) => {
          const open = () => openPreferences?.();
          return window.linkTo("Mehr", open);
        },
      },
    }),
  );
  await page.locator(".doorbell-bell").click();
  await page.getByRole("dialog", { name: "Notifications" }).waitFor();
  await button("Mehr").click();
  await page.getByRole("dialog", { name: "Einstellungen" }).waitFor();
  await context.route(UPDATE, (route) => route.abort());
  await lever("Kommentare").click();
  await page.getByText("Kommentare: nicht gespeichert.").waitFor();
  await button("Zurück").click();
  await button("Mehr").waitFor();
});

for (const look of [{ colorScheme: "dark" }, { forcedColors: "active" }] as const) {
  test(`it has no fault in ${Object.values(look).join()}`, async () => {
    await page.emulateMedia(look);
    await say("--required", "security");
    await choose({ comment: "Comments", security: "Security" });
    await page.locator(".doorbell-bell").click();
    await button("Preferences").waitFor();
    expect(await findings(page)).toEqual([]);
    await button("Preferences").click();
    await lever("Comments").click();
    await untilOn("Comments", false);
    expect(await findings(page)).toEqual([]);
  });
}

test("what comes while one chooses is not seen yet", async () => {
  await choose(true);
  await open();
  const unseen = (count: number) =>
    until(`${count} are unseen`, () =>
      page.evaluate((wanted) => window.inbox.getSnapshot().unseenCount === wanted, count),
    );
  await unseen(0);
  await doorbell.send("alice", "two");
  await unseen(1);
  await button("Back to the list").click();
  await unseen(0);
});

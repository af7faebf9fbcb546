// The page that the binary serves, by all that it can do.

import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { Doorbell, findings, openBrowser, until } from "./service.js";

/** One pixel. */
const PICTURE = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  "base64",
);

let browser: Browser;
let doorbell: Doorbell;
let context: BrowserContext;
let page: Page;
/** What the console was told. */
let problems: string[];

beforeAll(async () => {
  [doorbell, browser] = await Promise.all([Doorbell.start(), openBrowser()]);
});

afterAll(async () => {
  await browser?.close();
  await doorbell?.stop();
});

beforeEach(async () => {
  context = await browser.newContext({ locale: "en-GB", viewport: { width: 1200, height: 1000 } });
  page = await context.newPage();
  problems = [];
  page.on("console", (message) => {
    if (message.type() === "error" && !message.text().includes("favicon")) problems.push(message.text());
  });
  await page.goto(doorbell.link);
  for (const user of ["alice", "bob"]) {
    await until("it is live", async () => {
      return (await page.getByTestId(`${user}-status`).textContent()) === "live";
    });
  }
  await page.getByText("Every field").click();
});

afterEach(async () => {
  await context?.close();
});

const fill = async (fields: Record<string, string>) => {
  for (const [label, text] of Object.entries(fields)) await page.getByLabel(label, { exact: true }).fill(text);
};
const press = (name: string) => page.getByRole("button", { name, exact: true }).click();
const said = (text: string | RegExp) => page.locator(".sender > output").getByText(text).waitFor();
const screen = (name: string) => page.getByRole("region", { name: `${name}'s screen` });
const toasts = (user: string) => page.locator(`.toasts-of-${user} .doorbell-toast`);
const streamed = (name: string, text: string | RegExp) =>
  screen(name).locator(".stream").getByText(text).first().waitFor();

test("it sends every field there is, and both users have their own screen", async () => {
  await context.route("**/faces/bob.png", (route) =>
    route.fulfill({ contentType: "image/png", body: PICTURE }),
  );
  await page.locator("select[name=to]").selectOption("bob");
  await fill({
    Title: "Invoice 7 is due",
    Body: "Of a week ago",
    Type: "invoice",
    "Entity type": "invoice",
    "Entity id": "7",
    "Action URL": "/invoices/7",
    "Image URL": "/faces/bob.png",
    "Collapse key": "invoice 7",
    "Expires in, seconds": "3600",
    "Idempotency key": "the first",
    "Actions, one a line: label and URL": "Pay now /invoices/7/pay\nLater /invoices",
    "Data, as JSON": '{"amount": {"euro": 12}}',
  });
  await press("Ring");
  await said("Sent: revision 1, 1 unread.");
  for (const part of [
    '"type":"invoice"',
    '"body":"Of a week ago"',
    '"entityType":"invoice","entityId":"7"',
    '"actionUrl":"/invoices/7"',
    '"imageUrl":"/faces/bob.png"',
    '"data":{"amount":{"euro":12}}',
    '"actions":[{"label":"Pay now","url":"/invoices/7/pay","isPrimary":true},{"label":"Later","url":"/invoices"}]',
    '"expireTime":',
    '"ring":true',
  ]) {
    await streamed("Bob", part);
  }
  expect(await toasts("alice").count()).toBe(0);
  await toasts("bob").locator("img").waitFor();
  // A link is said, and the page stays.
  await toasts("bob").getByRole("link", { name: "Pay now" }).click();
  await screen("Bob").getByText("Would go to /invoices/7/pay").waitFor();
  await press("Ring");
  await said("Sent before: revision 2, 0 unread.");
  await fill({ "Data, as JSON": "{" });
  await press("Ring");
  await said(/SyntaxError/);
  expect(await findings(page)).toEqual([]);
  expect(problems).toEqual([]);
});

test("what was sent is corrected, rings again, and is taken back", async () => {
  await fill({ Title: "Draft" });
  await press("Ring");
  await toasts("alice").getByText("Draft").waitFor();
  await fill({ Title: "Final" });
  await press("Update");
  await said(/^Updated: revision/);
  // The toast is corrected in its place.
  await toasts("alice").getByText("Final").waitFor();
  expect(await toasts("alice").count()).toBe(1);
  await press("Update");
  await said("Nothing changed.");
  await page.getByRole("button", { name: "Dismiss: Final" }).click();
  await fill({ Title: "Final, really" });
  await press("Update and ring");
  await toasts("alice").getByText("Final, really").waitFor();
  await press("Retract");
  await said(/^Taken back: 1/);
  await until("it is gone", async () => (await toasts("alice").count()) === 0);
  expect(await page.getByRole("list", { name: "Sent from here" }).count()).toBe(0);

  // By the thing, and by the key, of a silent one.
  await fill({ Title: "Quiet", "Entity type": "post", "Entity id": "1", "Collapse key": "likes" });
  await page.getByLabel("Silent").check();
  await press("Ring");
  await said(/1 unread/);
  await streamed("Alice", "Quiet");
  expect(await toasts("alice").count()).toBe(0);
  await press("Retract by collapse key");
  await said(/^Taken back: 1/);
  await fill({ "Idempotency key": "quiet" });
  await press("Ring");
  await said(/1 unread/);
  await press("Retract by idempotency key");
  await said(/^Taken back: 1/);
  await fill({ "Idempotency key": "quieter" });
  await press("Ring");
  await said(/1 unread/);
  await press("Retract all about the entity");
  await said(/^Taken back: 1/);
  expect(problems).toEqual([]);
});

test("what a user does not want is not sent, and said to who sends it", async () => {
  await screen("Alice").locator(".doorbell-bell").click();
  await screen("Alice").getByRole("button", { name: "Preferences" }).click();
  const comments = (on: boolean) => screen("Alice").getByRole("switch", { name: "Comments", checked: on });
  const saved = page.waitForResponse("**/UpdatePreferences");
  await comments(true).click();
  await saved;
  await comments(false).waitFor();
  expect(await findings(page)).toEqual([]);
  await fill({ Title: "Unwanted", Type: "comment" });
  await press("Ring");
  await said("Not sent: Alice does not want this type.");
  await page.locator("select[name=to]").selectOption("bob");
  await press("Ring");
  await said(/^Sent: revision/);
  expect(problems).toEqual([]);
});

test("the number of the first user is in the title", async () => {
  await fill({ Title: "Look" });
  await press("Ring");
  await until("it is", async () => (await page.title()) === "(1) Doorbell, live");
  await screen("Alice").locator(".doorbell-bell").click();
  await until("it is gone", async () => (await page.title()) === "Doorbell, live");
  expect(problems).toEqual([]);
});

test("pictures of notifications are loaded, and no program from elsewhere", async () => {
  await context.route("https://elsewhere.example/**", (route) =>
    route.fulfill({ contentType: "image/png", body: PICTURE }),
  );
  const loaded = await page.evaluate(async () => {
    const comes = (element: HTMLElement) =>
      new Promise<boolean>((done) => {
        element.onload = () => done(true);
        element.onerror = () => done(false);
        document.body.append(element);
      });
    const src = "https://elsewhere.example/bob.png";
    return [
      await comes(Object.assign(document.createElement("img"), { src })),
      await comes(Object.assign(document.createElement("script"), { src })),
    ];
  });
  expect(loaded).toEqual([true, false]);
});

test("the bell of the page does all that a person does", async () => {
  const bell = screen("Alice");
  await page.locator("form").evaluate((form: HTMLFormElement) => form.reset());
  for (const title of ["First", "Second"]) {
    await fill({ Title: title, Type: "invoice", "Action URL": "/invoices/7" });
    await press("Ring");
    await streamed("Alice", title);
  }
  await bell.locator(".doorbell-bell").click();
  const panel = bell.getByRole("dialog");
  const rows = panel.locator(".doorbell-item");
  const shows = (...titles: string[]) =>
    until(`${titles.join()} are listed`, async () => {
      const listed = await rows.locator(".doorbell-subject").allInnerTexts();
      return listed.filter((title) => ["First", "Second"].includes(title)).join() === titles.join();
    });
  await shows("Second", "First");
  /** What can be done to one shows to who points at it. */
  const act = async (name: string) => {
    await rows.filter({ hasText: "Second" }).hover();
    await panel.getByRole("button", { name: `${name}: Second` }).click();
  };
  await act("Mark as read");
  await streamed("Alice", '"readAt"');
  await act("Mark as unread");
  await act("Archive");
  await shows("First");
  await panel.getByRole("button", { name: "Undo" }).click();
  await shows("Second", "First");
  await act("Archive");
  await panel.getByRole("tab", { name: "Archived" }).click();
  await shows("Second");
  await panel.getByRole("tab", { name: "Invoices" }).click();
  await shows("First");
  await panel.getByRole("link", { name: "First" }).click();
  await bell.getByText("Would go to /invoices/7").waitFor();
  expect(problems).toEqual([]);
});

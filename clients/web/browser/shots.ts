// Pictures of what there is to see, of the page that `doorbell dev` serves, in target/shots:
// for who changes it to look at, and for the READMEs. `npm run shots`.

import { mkdirSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, test } from "vitest";
import { withFewColours } from "./png.js";
import { Doorbell, openBrowser, until } from "./service.js";

const SHOTS = resolve(import.meta.dirname, "../../../target/shots");
const WIDE = { width: 1000, height: 680 };
const NARROW = { width: 390, height: 780 };

/** What Alice finds, the newest first. */
const STORY = [
  { Title: "Dana commented on your plan", Body: "Could we move the second half to March? Then the whole team is back.", Type: "comment" },
  { Title: "Your export is ready", Type: "message", "Action URL": "/exports/7" },
  {
    Title: "Invoice 2041 is due tomorrow",
    Body: "It was sent on the second, and nobody has paid it.",
    Type: "invoice",
    "Action URL": "/invoices/2041",
    "Actions, one a line: label and URL": "Pay /invoices/2041/pay\nLater /invoices",
  },
];
/** And in a page from right to left. */
const HEBREW = [
  { Title: "דנה הגיבה לתוכנית שלך", Body: "אפשר לדחות את החלק השני למרץ?", Type: "comment" },
  { Title: "הקובץ מוכן", Type: "message" },
];

let browser: Browser;
let doorbell: Doorbell;

beforeAll(async () => {
  mkdirSync(SHOTS, { recursive: true });
  browser = await openBrowser();
});

afterAll(async () => {
  await browser?.close();
});

// Each has an inbox of its own.
beforeEach(async () => {
  doorbell = await Doorbell.start();
  return () => doorbell.stop();
});

async function open(look: BrowserContextOptions): Promise<Page> {
  const context = await browser.newContext({ locale: "en-GB", reducedMotion: "reduce", ...look });
  const page = await context.newPage();
  await page.goto(doorbell.link);
  for (const user of ["alice", "bob"]) {
    await until("it is live", async () => {
      return (await page.getByTestId(`${user}-status`).textContent()) === "live";
    });
  }
  return page;
}

/** Sends them, the last one first. */
async function send(page: Page, story: readonly Record<string, string>[]): Promise<void> {
  const summary = page.getByText("Every field");
  await summary.click();
  for (const fields of story.toReversed()) {
    await page.locator("form").evaluate((form: HTMLFormElement) => form.reset());
    for (const [label, text] of Object.entries(fields)) {
      await page.getByLabel(label, { exact: true }).fill(text);
    }
    await page.getByRole("button", { name: "Ring", exact: true }).click();
    await page.getByText(`Sent: revision`).waitFor();
    await page.locator(".stream").first().getByText(fields["Title"] ?? "").waitFor();
  }
  await page.locator("form").evaluate((form: HTMLFormElement) => form.reset());
  await summary.click();
}

const alice = (page: Page) => page.getByRole("region", { name: "Alice's screen" });
const openBell = (page: Page) => alice(page).locator(".doorbell-bell").click();

/** The toasts are gone: a picture of something else has none. */
async function withoutToasts(page: Page): Promise<void> {
  const dismiss = page.getByRole("button", { name: /^Dismiss/ });
  while ((await dismiss.count()) > 0) await dismiss.first().click();
}

async function shoot(page: Page, name: string): Promise<void> {
  writeFileSync(resolve(SHOTS, `${name}.png`), withFewColours(await page.screenshot()));
  await page.context().close();
}

for (const colorScheme of ["light", "dark"] as const) {
  test(`live, ${colorScheme}`, async () => {
    const page = await open({ viewport: WIDE, colorScheme });
    await send(page, STORY);
    await withoutToasts(page);
    await openBell(page);
    await alice(page).getByRole("dialog").waitFor();
    await shoot(page, `live-${colorScheme}`);
  });

  test(`toasts, ${colorScheme}`, async () => {
    const page = await open({ viewport: WIDE, colorScheme });
    await send(page, STORY);
    await shoot(page, `toasts-${colorScheme}`);
  });

  test(`narrow, ${colorScheme}`, async () => {
    const page = await open({ viewport: NARROW, colorScheme });
    await send(page, STORY);
    await withoutToasts(page);
    await openBell(page);
    await shoot(page, `narrow-${colorScheme}`);
  });
}

test("from right to left", async () => {
  const page = await open({ viewport: WIDE, locale: "he" });
  await page.evaluate(() => Object.assign(document.documentElement, { dir: "rtl", lang: "he" }));
  await send(page, HEBREW);
  await withoutToasts(page);
  await openBell(page);
  await shoot(page, "right-to-left");
});

test("every field", async () => {
  const page = await open({ viewport: { width: 1000, height: 1000 } });
  await send(page, STORY.slice(0, 1));
  await page.getByText("Every field").click();
  await shoot(page, "fields");
});

test("empty", async () => {
  const page = await open({ viewport: NARROW });
  await openBell(page);
  await page.getByText("Nothing here yet.").waitFor();
  await shoot(page, "empty");
});

test("away", async () => {
  const page = await open({ viewport: NARROW });
  await send(page, STORY);
  await withoutToasts(page);
  await openBell(page);
  await doorbell.kill();
  await page.getByText("Reconnecting…").first().waitFor();
  await alice(page).getByText("cannot be reached").waitFor();
  await shoot(page, "away");
});

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
  {
    Title: "Dana commented on your plan",
    Body: "Could we move the second half to March? Then the whole team is back.",
    Type: "comment",
    "Image URL": "https://pictures.example/dana",
  },
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

const FACE = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 40">
  <rect width="40" height="40" fill="#f2b8a0"/><circle cx="20" cy="17" r="8" fill="#fff3ea"/>
  <path d="M5 40a15 13 0 0 1 30 0z" fill="#7a4fa3"/></svg>`;

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
  await context.route("https://pictures.example/**", (route) =>
    route.fulfill({ contentType: "image/svg+xml", body: FACE }),
  );
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
const row = (page: Page, at: number) => alice(page).locator(".doorbell-item").nth(at);
const openBell = (page: Page) => alice(page).locator(".doorbell-bell").click();

/** The toasts are gone, and what was sent from here: a picture of something else has none. */
async function settle(page: Page): Promise<void> {
  const { dir, lang } = await page.evaluate(() => document.documentElement);
  await page.reload();
  await page.evaluate((given) => Object.assign(document.documentElement, given), { dir, lang });
  await alice(page).locator(".doorbell-badge").waitFor();
}

async function shoot(page: Page, name: string, clip?: Clip): Promise<void> {
  const picture = await page.screenshot(clip && { clip });
  writeFileSync(resolve(SHOTS, `${name}.png`), withFewColours(picture));
  await page.context().close();
}

type Clip = NonNullable<NonNullable<Parameters<Page["screenshot"]>[0]>["clip"]>;

/** The bell and its list, and a little around them. */
async function aroundBell(page: Page): Promise<Clip> {
  const bell = await alice(page).locator(".doorbell-bell").boundingBox();
  const panel = await alice(page).getByRole("dialog").boundingBox();
  if (!bell || !panel) throw new Error("there is no bell");
  const x = Math.min(bell.x, panel.x) - 12;
  const y = Math.min(bell.y, panel.y) - 12;
  const width = Math.max(bell.x + bell.width, panel.x + panel.width) + 12 - x;
  return { x, y, width, height: Math.max(bell.y + bell.height, panel.y + panel.height) + 12 - y };
}

for (const colorScheme of ["light", "dark"] as const) {
  test(`live, ${colorScheme}`, async () => {
    const page = await open({ viewport: WIDE, colorScheme });
    await send(page, STORY);
    await settle(page);
    await openBell(page);
    await row(page, 2).waitFor();
    await shoot(page, `live-${colorScheme}`);
  });

  test(`bell, ${colorScheme}`, async () => {
    const page = await open({ viewport: WIDE, colorScheme });
    await send(page, STORY);
    await settle(page);
    await openBell(page);
    await row(page, 1).hover();
    await shoot(page, `bell-${colorScheme}`, await aroundBell(page));
  });

  test(`toasts, ${colorScheme}`, async () => {
    const page = await open({ viewport: WIDE, colorScheme });
    await send(page, STORY);
    await shoot(page, `toasts-${colorScheme}`);
  });

  test(`narrow, ${colorScheme}`, async () => {
    const page = await open({ viewport: NARROW, colorScheme });
    await send(page, STORY);
    await settle(page);
    await openBell(page);
    await shoot(page, `narrow-${colorScheme}`);
  });
}

for (const colorScheme of ["light", "dark"] as const) {
  test(`preferences, ${colorScheme}`, async () => {
    const page = await open({ viewport: WIDE, colorScheme });
    await shootPreferences(page, `preferences-${colorScheme}`);
  });
}

test("preferences, from right to left", async () => {
  const page = await open({ viewport: WIDE, locale: "he" });
  await page.evaluate(() => Object.assign(document.documentElement, { dir: "rtl", lang: "he" }));
  await shootPreferences(page, "preferences-right-to-left");
});

/** One is off, one that everybody has, and one of which only the service knows. */
async function shootPreferences(page: Page, name: string): Promise<void> {
  const said = ["--required", "invoice", "--on", "release.major"];
  const who = ["--token", doorbell.token("SENDER"), "--url", doorbell.url, "--organization", "acme"];
  await doorbell.run("type-defaults", ...who, ...said);
  await openBell(page);
  await alice(page).getByRole("button", { name: "Preferences" }).click();
  await page.getByRole("switch", { name: "Comments" }).click();
  await page.getByRole("switch", { name: "Messages" }).hover();
  await shoot(page, name, await aroundBell(page));
}

test("tabs", async () => {
  const page = await open({ viewport: WIDE });
  await send(page, STORY);
  await settle(page);
  await openBell(page);
  await alice(page).getByRole("tab", { name: "Invoices" }).click();
  await row(page, 0).getByText("Invoice 2041").waitFor();
  await shoot(page, "tabs");
});

test("undo", async () => {
  const page = await open({ viewport: WIDE, colorScheme: "dark" });
  await send(page, STORY);
  await settle(page);
  await openBell(page);
  await row(page, 1).hover();
  await row(page, 1).getByRole("button", { name: /^Archive/ }).click();
  await alice(page).getByRole("button", { name: "Undo" }).waitFor();
  await shoot(page, "undo");
});

test("a sweep", async () => {
  const page = await open({ viewport: NARROW, hasTouch: true });
  await send(page, STORY);
  await settle(page);
  await openBell(page);
  const box = await row(page, 0).boundingBox();
  if (!box) throw new Error("there is no row");
  const devtools = await page.context().newCDPSession(page);
  const y = box.y + box.height / 2;
  const touch = (type: "touchStart" | "touchMove", part: number) =>
    devtools.send("Input.dispatchTouchEvent", { type, touchPoints: [{ x: box.x + part * box.width, y }] });
  await touch("touchStart", 0.8);
  for (const part of [0.7, 0.6, 0.5, 0.4]) await touch("touchMove", part);
  await alice(page).locator("[data-swipe-far]").waitFor();
  await shoot(page, "sweep");
});

test("from right to left", async () => {
  const page = await open({ viewport: WIDE, locale: "he" });
  await page.evaluate(() => Object.assign(document.documentElement, { dir: "rtl", lang: "he" }));
  await send(page, HEBREW);
  await settle(page);
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
  await settle(page);
  await openBell(page);
  await doorbell.kill();
  await page.getByText("Reconnecting…").first().waitFor();
  await alice(page).getByText("cannot be reached").waitFor();
  await shoot(page, "away");
});

for (const [name, look] of [
  ["light", { viewport: { ...WIDE, height: 920 }, colorScheme: "light" }],
  ["dark", { viewport: WIDE, colorScheme: "dark" }],
  ["narrow", { viewport: NARROW, colorScheme: "light" }],
] as const) {
  test(`the operators' page, ${name}`, async () => {
    const to = ["--organization", "acme", "--user", "alice", "--type", "invoice"];
    const about = ["--entity-type", "invoice", "--entity-id", "2041", "--action-url", "/invoices/2041"];
    const body = ["--body", "It was sent on the second, and nobody has paid it."];
    await doorbell.asSender("send", ...to, "--title", "Invoice 2041 is due tomorrow", ...about, ...body);
    for (const title of ["Your export is ready", "Dana commented on your plan"]) await doorbell.send("alice", title);
    const own = ["--token", doorbell.token("ALICE"), "--url", doorbell.url];
    await doorbell.run("read", ...own, "--entity-type", "invoice", "--entity-id", "2041");
    const context = await browser.newContext({ locale: "en-GB", reducedMotion: "reduce", ...look });
    const page = await context.newPage();
    await page.goto(doorbell.operatorPage);
    await page.getByLabel("Token").fill(doorbell.token("OPERATOR"));
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByLabel("Organization", { exact: true }).fill("acme");
    await page.getByLabel("User").first().fill("alice");
    await page.getByRole("button", { name: "Look" }).click();
    await page.getByRole("button", { name: "Invoice 2041 is due tomorrow" }).click();
    await page.getByRole("region", { name: "Invoice 2041 is due tomorrow" }).waitFor();
    await page.evaluate(() => (document.activeElement as HTMLElement | null)?.blur());
    await shoot(page, `operator-${name}`);
  });

  for (const section of ["Sends", "Broadcast", "Erase", "Node"] as const) {
    test(`the operators' page, ${section}, ${name}`, async () => {
      const topic = ["--organization", "acme", "--topic", "news"];
      await doorbell.asSender("topic add", ...topic, "alice", "carol", "dave");
      await doorbell.asSender("send", ...topic, "--type", "notice", "--title", "The office is open again");
      const later = ["--title", "The office closes early", "--deliver-time", "24h"];
      await doorbell.asSender("send", ...topic, "--type", "notice", ...later);
      const context = await browser.newContext({ locale: "en-GB", reducedMotion: "reduce", ...look });
      const page = await context.newPage();
      await page.goto(`${doorbell.operatorPage}#${section.toLowerCase()}`);
      await page.getByLabel("Token").fill(doorbell.token("OPERATOR"));
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.getByLabel("Organization", { exact: true }).fill("acme");
      if (section === "Sends") {
        await page.getByRole("button", { name: "List" }).click();
        await page.getByText("The office is open again").waitFor();
      }
      if (section === "Broadcast") {
        await page.getByLabel("Type", { exact: true }).fill("announcement");
        await page.getByLabel("Title").fill("We are back");
        await page.getByLabel("Text").fill("All is well, and nothing was lost.");
        await page.getByLabel("Actions, one a line: label and URL").fill("Read more /news/7\nLater /news");
      }
      if (section === "Node") await page.getByText("Ready", { exact: true }).waitFor();
      await shoot(page, `operator-${section.toLowerCase()}-${name}`);
    });
  }
}

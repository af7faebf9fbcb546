// The operators' page, by all that it can do, against the real binary.

import { fromBinary } from "@bufbuild/protobuf";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { RetractFromAllRequestSchema } from "../src/gen/doorbell/v1/sends_pb.js";
import { Doorbell, findings, openBrowser, until } from "./service.js";

let browser: Browser;
let doorbell: Doorbell;
let context: BrowserContext;
let page: Page;
/** What the console was told, a breach of the policy among it. */
let problems: string[];

beforeAll(async () => {
  browser = await openBrowser();
});

afterAll(async () => {
  await browser?.close();
});

beforeEach(async () => {
  doorbell = await Doorbell.start();
  problems = [];
  await open({});
  return () => doorbell.stop();
});

afterEach(async () => {
  await context?.close();
});

async function open(look: Parameters<Browser["newContext"]>[0]): Promise<void> {
  await context?.close();
  context = await browser.newContext({ locale: "en-GB", viewport: { width: 1200, height: 900 }, ...look });
  page = await context.newPage();
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(message.text());
  });
  await page.goto(doorbell.operatorPage);
}

const button = (name: string) => page.getByRole("button", { name, exact: true });
const press = (name: string) => button(name).click();
const form = (name: string) => page.getByRole("form", { name, exact: true });
const status = (text: string | RegExp) => page.getByRole("status").getByText(text).waitFor();
const refusal = (text: string | RegExp) => page.getByRole("alert").getByText(text).waitFor();
const rows = () => page.getByRole("table").getByRole("row");

async function signIn(token = doorbell.token("OPERATOR"), organization = "acme"): Promise<void> {
  await page.getByLabel("Token").fill(token);
  await press("Sign in");
  await page.getByLabel("Organization", { exact: true }).fill(organization);
}

async function go(section: string): Promise<void> {
  await page.getByRole("link", { name: section, exact: true }).click();
  await page.getByRole("heading", { level: 1, name: section }).waitFor();
}

/** The cells of the row that has this text, by their headings. */
async function cells(text: string): Promise<Record<string, string>> {
  const row = rows().filter({ hasText: text });
  return await row.evaluate((of) =>
    Object.fromEntries(
      [...of.querySelectorAll("td")].map((cell) => [cell.dataset["heading"], cell.innerText.trim()]),
    ),
  );
}

test("a user's and a sender's token are refused, and an operator's is kept nowhere", async () => {
  for (const [name, token] of [
    ["a user", doorbell.token("ALICE")],
    ["a sender", doorbell.token("SENDER")],
  ]) {
    await page.getByLabel("Token").fill(token ?? "");
    await press("Sign in");
    await refusal("this token's role is not that of operators");
    expect(await page.getByRole("navigation").count(), name).toBe(0);
    await page.reload();
  }
  await page.getByLabel("Token").fill("nonsense");
  await press("Sign in");
  await refusal(/token/);
  expect(problems).toEqual([]);

  await signIn();
  await page.getByLabel("User").first().fill("alice");
  await press("Look");
  await page.getByText("There is nothing of this.").waitFor();
  const kept = await page.evaluate(async () => [
    localStorage.length,
    sessionStorage.length,
    document.cookie,
    (await indexedDB.databases()).length,
    (await caches.keys()).length,
    location.hash,
  ]);
  expect(kept).toEqual([0, 0, "", 0, 0, ""]);
  expect(await context.cookies()).toEqual([]);
  await page.reload();
  await page.getByLabel("Token").waitFor();
  await signIn();
  await press("Sign out");
  expect(await page.getByLabel("Token").inputValue()).toBe("");
});

test("a token that has ended leads to the sign-in, which says why", async () => {
  const words = ["--organization", "acme", "--role", "operator", "--lifetime", "4s"];
  await signIn(await doorbell.run("token", ...words));
  await page.getByLabel("User").first().fill("alice");
  await until("it has ended", async () => {
    if (await page.getByLabel("Token").count()) return true;
    // It may go from under the pointer.
    await button("Look").click({ timeout: 1000 }).catch(() => undefined);
    return false;
  });
  await page.getByText(/token (is|has) (expired|ended|over)|expired/i).waitFor();
});

test("an operator of one organization has that one", async () => {
  await signIn(await doorbell.run("token", "--organization", "acme", "--role", "operator"));
  await page.getByLabel("User").first().fill("alice");
  await press("Look");
  await page.getByText("There is nothing of this.").waitFor();
  await page.getByLabel("Organization", { exact: true }).fill("globex");
  await press("Look");
  await refusal("this token is not for that organization");
  await go("Node");
  await refusal(/are of all organizations/);
  expect(problems).toEqual([]);
});

test("an inbox is looked into, in any state, and what became of a notification", async () => {
  const hostile = "<img src=x onerror=alert(1)>";
  const about = ["--organization", "acme", "--user", "alice", "--type", "invoice"];
  await doorbell.asSender("send", ...about, "--title", hostile, "--idempotency-key", "first");
  for (let at = 1; at <= 22; at++) await doorbell.asSender("send", ...about, "--title", `Number ${at}`);
  const link = ["--action-url", "https://pay.example/7", "--body", "Of a week ago"];
  await doorbell.asSender("send", ...about, "--title", "With all", ...link);
  const own = ["--token", doorbell.token("ALICE"), "--url", doorbell.url];
  const ids = JSON.parse(await doorbell.run("recent", ...own, "--limit", "3", "--json")) as {
    notifications: { id: string; title: string }[];
  };
  const idOf = (title: string) => ids.notifications.find((of) => of.title === title)?.id ?? "";
  await doorbell.run("archive", ...own, idOf("Number 22"));
  await doorbell.run("read", ...own, idOf("Number 21"));

  await signIn();
  const inbox = form("An inbox");
  await inbox.getByLabel("User").fill("alice");
  await inbox.getByRole("button", { name: "Look" }).click();
  await page.getByText(/^22 unread, /).waitFor();
  expect(await rows().count()).toBe(21);
  await press("More");
  await until("all are listed", async () => (await rows().count()) === 25);
  expect((await cells("Number 22"))["State"]).toBe("archived");
  expect((await cells("Number 21"))["State"]).toBe("read");
  expect((await cells("Number 20"))["State"]).toBe("unread");
  // What a sender wrote is text.
  await button(hostile).waitFor();
  expect(await page.locator("main img").count()).toBe(0);

  await inbox.getByLabel("Which").selectOption("Archived");
  await inbox.getByRole("button", { name: "Look" }).click();
  await until("one is listed", async () => (await rows().count()) === 2);
  await inbox.getByLabel("Which").selectOption("In the inbox");
  await inbox.getByLabel("Unread only").check();
  await inbox.getByLabel("Type").fill("invoice");
  await inbox.getByRole("button", { name: "Look" }).click();
  await until("what is read is not", async () => (await rows().filter({ hasText: "Number 21" }).count()) === 0);

  await press("With all");
  const card = page.getByRole("region", { name: "With all" });
  await card.getByText("Of a week ago").waitFor();
  const leads = card.getByRole("link", { name: "https://pay.example/7" });
  expect(await leads.getAttribute("rel")).toContain("noreferrer");
  await card.getByRole("listitem").filter({ hasText: "Came into the inbox" }).waitFor();
  await card.getByText("its person has not looked since it came").waitFor();
  await card.getByRole("button", { name: "Close" }).click();

  // What was removed, by its key.
  const retracted = ["--organization", "acme", "--user", "alice", "--idempotency-key", "first"];
  await doorbell.asSender("retract", ...retracted);
  const one = form("One notification");
  await one.getByLabel("By").selectOption("its idempotency key");
  await one.getByLabel("Id or key").fill("first");
  await one.getByRole("button", { name: "Find" }).click();
  await page.getByRole("listitem").filter({ hasText: "Removed by its sender" }).waitFor();
  await one.getByLabel("Id or key").fill("nothing");
  await one.getByRole("button", { name: "Find" }).click();
  await refusal(/no (such )?notification/i);
  expect(problems).toEqual([]);
});

test("sends are listed, followed and cancelled, and what is about a thing is taken back", async () => {
  const topic = ["--organization", "acme", "--topic", "news"];
  await doorbell.asSender("topic add", ...topic, "alice", "carol", "dave");
  const what = ["--type", "notice", "--entity-type", "project", "--entity-id", "7"];
  await doorbell.asSender("send", ...topic, ...what, "--title", "Now", "--idempotency-key", "now");
  await doorbell.asSender("send", ...topic, ...what, "--title", "Tomorrow", "--deliver-time", "24h");
  await doorbell.asSender("send", ...topic, ...what, "--title", "Soon", "--deliver-time", "5s");

  await signIn();
  await go("Sends");
  await press("List");
  // It is followed until all have it.
  await until("it is delivered while somebody looks", async () => {
    const { State = "", To } = await cells("Soon");
    return To === "topic news" && /^Done/.test(State) && State.includes("3 delivered of 3");
  });
  await page.getByRole("progressbar", { name: "3 of 3" }).first().waitFor();
  await press("Cancel: Tomorrow");
  await press("No");
  await press("Cancel: Tomorrow");
  await press("Cancel it");
  await status(/^Cancelled/);
  expect((await cells("Tomorrow"))["State"]).toMatch(/^Cancelled/);
  expect(await button("Cancel: Tomorrow").count()).toBe(0);
  await page.getByRole("form", { name: "Sends" }).getByLabel("Which").selectOption("Cancelled");
  await press("List");
  await until("one is listed", async () => (await rows().count()) === 2);
  const one = form("One send");
  await one.getByLabel("By").selectOption("its idempotency key");
  await one.getByLabel("Id or key").fill("now");
  await one.getByRole("button", { name: "Find" }).click();
  await until("it is found", async () => (await rows().filter({ hasText: "Now" }).count()) === 1);

  await page.getByLabel("Entity type").fill("project");
  await page.getByLabel("Entity id").fill("7");
  // Its answer is lost: a second try is the same one.
  const keys: string[] = [];
  const isLost = () => keys.length === 1;
  await page.route("**/RetractFromAll", async (route) => {
    const asked = fromBinary(RetractFromAllRequestSchema, route.request().postDataBuffer()?.subarray(5) ?? new Uint8Array());
    keys.push(asked.idempotencyKey);
    const answer = await route.fetch();
    await (isLost() ? route.abort() : route.fulfill({ response: answer }));
  });
  const takeBack = async () => {
    await press("Take back from all");
    await press("Take it back");
  };
  await takeBack();
  await refusal(/fetch/);
  await takeBack();
  await status("Done: 6 taken back.");
  // One after that is another one.
  await takeBack();
  await status("Done: 0 taken back.");
  expect(keys[1]).toBe(keys[0]);
  expect(keys[2]).not.toBe(keys[0]);
  // The browser says that the answer was lost.
  expect(problems.splice(0)).toHaveLength(1);
  expect(await doorbell.run("count", "--token", doorbell.token("ALICE"), "--url", doorbell.url)).toBe("0 unread");
  expect(problems).toEqual([]);
});

test("a broadcast is composed, looked at, sent and taken back", async () => {
  await signIn();
  await go("Broadcast");
  await page.getByText("It has no title yet.").waitFor();
  expect(await button("Broadcast").isDisabled()).toBe(true);
  await page.getByLabel("Type", { exact: true }).fill("announcement");
  await page.getByLabel("Title").fill("We are <b>back</b>");
  await page.getByLabel("Text").fill("All is well.");
  await page.getByLabel("Actions, one a line: label and URL").fill("Read more /news/7");
  await page.getByLabel("Leads to").fill("/news/7");
  const preview = page.getByRole("article");
  await preview.getByText("We are <b>back</b>").waitFor();
  await preview.getByText("Read more").waitFor();
  await press("Broadcast");
  await page.getByText("This goes to everybody of acme.").waitFor();
  await press("Send it");
  await status(/^Accepted as /);
  const own = ["--token", doorbell.token("ALICE"), "--url", doorbell.url];
  await until("Alice has it", async () => (await doorbell.run("recent", ...own)).includes("We are <b>back</b>"));
  // What is wrong with it is said.
  await page.getByLabel("Leads to").fill("nowhere");
  await press("Broadcast");
  await press("Send it");
  await refusal(/action_url/);
  // And to all organizations.
  await page.getByLabel("Leads to").fill("");
  await page.getByLabel("Title").fill("For all");
  await page.getByLabel("To all organizations").check();
  await press("Broadcast");
  await page.getByText("This goes to everybody of every organization.").waitFor();
  await press("Send it");
  await status(/^Accepted as /);
  const bobs = ["--token", doorbell.token("BOB"), "--url", doorbell.url];
  await until("Bob has it", async () => (await doorbell.run("recent", ...bobs)).includes("For all"));

  await go("Sends");
  await press("List");
  await until("it is under way", async () => /^Under way/.test((await cells("back"))["State"] ?? ""));
  expect((await cells("back"))["Sender"]).toBe("operator");
  await press("Take back: We are <b>back</b>");
  await press("Take it back");
  await status(/^Taken back/);
  await until("it is gone", async () => !(await doorbell.run("recent", ...own)).includes("We are"));
  await form("Sends").getByLabel("To all organizations").check();
  await press("List");
  await until("it is listed", async () => (await cells("For all"))["To"] === "everybody");
  expect(problems).toEqual([]);
});

test("topics are looked at, left and deleted", async () => {
  const add = ["topic add", "--organization", "acme", "--topic"] as const;
  await doorbell.asSender(...add, "news", "alice", "carol", "dave");
  await doorbell.asSender(...add, "sport", "alice");
  await signIn();
  await go("Topics");
  await page.getByLabel("Topic", { exact: true }).fill("news");
  await press("List members");
  await until("all are listed", async () => (await rows().count()) === 4);
  await press("Remove: carol");
  await page.getByRole("group").getByRole("button", { name: "Remove" }).click();
  await status("carol is no member of news any more.");
  expect(await rows().count()).toBe(3);
  await page.getByLabel("User").fill("alice");
  await press("List topics");
  await until("both are listed", async () => (await rows().filter({ hasText: /news|sport/ }).count()) === 2);
  await press("Remove: sport");
  await page.getByRole("group").getByRole("button", { name: "Remove" }).click();
  await status("alice is no member of sport any more.");
  await press("List members");
  await press("Delete the topic");
  await press("Delete it");
  await status("news is gone, with 2 members.");
  await press("List members");
  await page.getByText("It has no members, so there is no such topic.").waitFor();
  expect(problems).toEqual([]);
});

test("follow-ups are listed, in their order and from where one was", async () => {
  const about = ["--organization", "acme", "--user", "alice", "--type", "invoice", "--follow-up", "1s"];
  for (const title of ["First", "Second"]) await doorbell.asSender("send", ...about, "--title", title);
  await signIn();
  await go("Follow-ups");
  await until("both are told", async () => {
    await press("List");
    await page.getByText(/There is none after it|Of acme/).first().waitFor();
    return (await rows().count()) === 3;
  });
  const { User, "Was not": what, State, Position } = await cells("First");
  expect([User, what, State]).toEqual(["alice", "read", "unread"]);
  await page.getByLabel("After position").fill(Position ?? "");
  await press("List");
  await until("the first is left out", async () => (await rows().filter({ hasText: "First" }).count()) === 0);
  expect(await rows().filter({ hasText: "Second" }).count()).toBe(1);
  expect(problems).toEqual([]);
});

test("an erasure needs the key of what is meant", async () => {
  for (const title of ["One", "Two"]) await doorbell.send("alice", title);
  await doorbell.asSender("send", "--organization", "acme", "--user", "carol", "--type", "test", "--title", "Three");
  await signIn();
  await go("Erase");
  const inbox = page.getByRole("region", { name: "One inbox" });
  const erase = inbox.getByRole("button", { name: "Erase" });
  expect(await erase.isDisabled()).toBe(true);
  await inbox.getByLabel("User", { exact: true }).fill("alice");
  await inbox.getByLabel("The user again").fill("alic");
  expect(await erase.isDisabled()).toBe(true);
  await inbox.getByLabel("The user again").press("Enter");
  await inbox.getByLabel("The user again").fill("alice");
  await erase.click();
  await status("2 erased.");
  const own = ["--token", doorbell.token("ALICE"), "--url", doorbell.url];
  expect(await doorbell.run("count", ...own)).toBe("0 unread");
  const whole = page.getByRole("region", { name: "A whole organization" });
  await whole.getByLabel("The organization again").fill("globex");
  expect(await whole.getByRole("button", { name: "Erase" }).isDisabled()).toBe(true);
  await whole.getByLabel("The organization again").fill("acme");
  await whole.getByRole("button", { name: "Erase" }).click();
  await status("1 erased, of 1 inboxes.");
  expect(problems).toEqual([]);
});

test("the figures of the node go on by themselves", async () => {
  await signIn();
  await go("Node");
  await page.getByText("Ready", { exact: true }).waitFor();
  const figure = async (name: string) =>
    await page.locator("dl > div").filter({ has: page.getByText(name, { exact: true }) }).locator("dd").innerText();
  expect(await figure("Store")).toBe("SQLite");
  expect(await figure("Bus")).toBe("none: this node is alone");
  expect(await figure("Open")).toBe("0");
  // A stream, and what goes over it.
  const alice = await context.newPage();
  await alice.goto(doorbell.link);
  await until("both streams are open", async () => (await figure("Open")) === "2");
  expect(await figure("Inboxes")).toBe("2");
  await until("a send is seen in the rates", async () => {
    await doorbell.send("alice", "Ring");
    return /^(?!0\.0)\d/.test(await figure("Calls that send")) && /ms$/.test(await figure("From send to stream"));
  });
  await doorbell.kill();
  await refusal(/fetch|reach|network/i);
});

test("all of it goes by the keyboard", async () => {
  await doorbell.asSender("topic add", "--organization", "acme", "--topic", "news", "alice");
  await page.keyboard.press("Tab");
  await page.keyboard.type(doorbell.token("OPERATOR"));
  await page.keyboard.press("Enter");
  await page.getByRole("navigation").waitFor();
  const focused = async () =>
    await page.evaluate(() => {
      const { activeElement: on } = document;
      return on?.getAttribute("aria-label") ?? on?.closest("label")?.textContent ?? on?.textContent ?? "";
    });
  /** Goes on by Tab until there. */
  const tabTo = (name: string) =>
    until(`the focus is on ${name}`, async () => {
      await page.keyboard.press("Tab");
      return (await focused()).trim() === name;
    });
  await tabTo("Topics");
  await page.keyboard.press("Enter");
  // The link that led there says the same.
  const tag = async () => await page.evaluate(() => document.activeElement?.tagName);
  await until("the focus is on the section", async () => (await tag()) === "H1" && (await focused()) === "Topics");
  await tabTo("Topic");
  await page.keyboard.type("news");
  // Back to the organization, which was not said.
  await page.keyboard.press("Enter");
  await refusal(/organization_id/);
  await until("the focus is on the organization", async () => {
    await page.keyboard.press("Shift+Tab");
    return (await focused()).trim() === "Organization";
  });
  await page.keyboard.type("acme");
  await tabTo("List members");
  await page.keyboard.press("Enter");
  await tabTo("Remove: alice");
  await page.keyboard.press("Enter");
  await until("it asks, on what does nothing", async () => (await focused()) === "No");
  await page.keyboard.press("Escape");
  await until("it is back", async () => (await focused()) === "Remove: alice");
  await page.keyboard.press("Enter");
  await until("it asks", async () => (await focused()) === "No");
  await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("Enter");
  await status("alice is no member of news any more.");
  expect(problems).toEqual([]);
});

for (const colorScheme of ["light", "dark"] as const) {
  for (const [name, width] of [["wide", 1200], ["narrow", 360]] as const) {
    test(`nothing is in the way of anybody, ${colorScheme} and ${name}`, async () => {
      const topic = ["--organization", "acme", "--topic", "news"];
      await doorbell.asSender("topic add", ...topic, "alice");
      await doorbell.send("alice", "A title that is as long as one can be without a break: ".padEnd(300, "x"));
      const follow = ["--organization", "acme", "--user", "alice", "--type", "invoice", "--follow-up", "1s"];
      await doorbell.asSender("send", ...follow, "--title", "Told");
      await doorbell.asSender("send", ...topic, "--type", "notice", "--title", "Later", "--deliver-time", "24h");
      await open({ colorScheme, viewport: { width, height: 800 } });
      const check = async (what: string) => {
        expect(await findings(page), what).toEqual([]);
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        expect(overflow, `${what} fits`).toBeLessThanOrEqual(0);
      };
      await check("the sign-in");
      await page.getByLabel("Token").fill(doorbell.token("ALICE"));
      await press("Sign in");
      await refusal(/not that of operators/);
      await check("a refusal");
      await signIn();
      await form("An inbox").getByLabel("User").fill("alice");
      await press("Look");
      await press("Told");
      await page.getByRole("region", { name: "Told" }).waitFor();
      await check("an inbox");
      await go("Sends");
      await press("List");
      await press("Cancel: Later");
      await check("sends");
      await go("Broadcast");
      await page.getByLabel("Type", { exact: true }).fill("announcement");
      await page.getByLabel("Title").fill("We are back");
      await page.getByLabel("Actions, one a line: label and URL").fill("Read more /news/7");
      await check("a broadcast");
      await go("Topics");
      await page.getByLabel("Topic", { exact: true }).fill("news");
      await press("List members");
      await rows().first().waitFor({ state: "attached" });
      await check("topics");
      await go("Follow-ups");
      await until("it is told", async () => {
        await press("List");
        await page.getByText(/There is none after it|Of acme/).first().waitFor();
        return (await rows().count()) === 2;
      });
      await check("follow-ups");
      await go("Erase");
      await page.getByLabel("The user again").fill("alice");
      await check("an erasure");
      await go("Node");
      await page.getByText("Ready", { exact: true }).waitFor();
      await check("the node");
      expect(problems).toEqual([]);
    });
  }
}

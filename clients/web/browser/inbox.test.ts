import type { BrowserContext, Page } from "playwright-core";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  Doorbell,
  findings,
  Holding,
  openTab,
  show,
  until,
  untilBell,
  untilStatus,
  untilUnread,
} from "./service.js";
import { setUp } from "./stage.js";

const stage = setUp();

const NONE = "Notifications";
const unseen = (count: number) => `Notifications, ${count} new`;

let doorbell: Doorbell;
let context: BrowserContext;

beforeEach(async () => {
  doorbell = await Doorbell.start();
  context = await stage.browser.newContext({ locale: "en-GB" });
});

afterEach(async () => {
  await context?.close();
  await doorbell?.stop();
});

async function tab(user: "ALICE" | "BOB" = "ALICE", options = {}): Promise<Page> {
  const given = { baseUrl: doorbell.url, token: doorbell.token(user), ...options };
  return await openTab(context, stage.pages.url(), given);
}

const streams = () => doorbell.metric("doorbell_streams_open");

async function untilStreams(count: number): Promise<void> {
  await until(`${count} streams`, async () => (await streams()) === count);
}

const statusOf = (page: Page) => page.evaluate(() => window.inbox?.getSnapshot().status);

async function untilProblem(page: Page, kind: string): Promise<void> {
  await until(`what stands in the way is ${kind}`, async () => {
    return (await page.evaluate(() => window.inbox?.getSnapshot().error?.kind)) === kind;
  });
}

test("a send rings all tabs of a user at once, and nobody else's", async () => {
  const [one, other, bob] = [await tab(), await tab(), await tab("BOB")];
  for (const page of [one, other, bob]) await untilStatus(page, "live");
  await doorbell.send("alice", "for alice");
  await untilBell(one, unseen(1), 1000);
  await untilBell(other, unseen(1), 1000);
  for (const page of [one, other]) {
    await until("it is announced", () => page.evaluate(() => window.announced.length === 1));
  }
  await doorbell.send("bob", "for bob");
  await untilBell(bob, unseen(1), 1000);
  expect(await bob.evaluate(() => window.announced)).toEqual(["for bob"]);
  expect(await one.evaluate(() => window.announced)).toEqual(["for alice"]);
});

test("what is seen and read in one tab is so in the other, and all can be marked at once", async () => {
  for (const title of ["one", "two", "three"]) await doorbell.send("alice", title);
  const [one, other] = [await tab(), await tab()];
  await untilBell(one, unseen(3));
  await untilBell(other, unseen(3));
  // Who opens the list has seen them; read they are not.
  await one.locator(".doorbell-bell").click();
  for (const page of [one, other]) {
    await untilBell(page, NONE);
    await untilUnread(page, 3);
  }
  await one.getByRole("button", { name: "Mark as read: one" }).click();
  for (const page of [one, other]) await untilUnread(page, 2);
  await one.getByText("2 unread").waitFor();
  // What comes while the list is open is seen.
  await doorbell.send("alice", "four");
  await one.getByText("3 unread").waitFor();
  await untilBell(other, NONE);
  await one.getByRole("button", { name: "Mark all as read" }).click();
  for (const page of [one, other]) await untilUnread(page, 0);
  expect(await one.getByRole("button", { name: "Mark all as read" }).count()).toBe(0);
  expect(await one.locator("[data-unread]").count()).toBe(0);
});

test("killed and started again, the inbox is complete without a reload", async () => {
  const page = await tab();
  await untilStatus(page, "live");
  await doorbell.send("alice", "before");
  await untilBell(page, unseen(1));
  await doorbell.kill();
  await untilStatus(page, "reconnecting");
  await doorbell.restart();
  await doorbell.send("alice", "after");
  await untilBell(page, unseen(2), 30_000);
  await untilStatus(page, "live");
  const titles = () => window.inbox.getSnapshot().notifications.map((row) => row.title);
  expect(await page.evaluate(titles)).toEqual(["after", "before"]);
});

test("eight tabs hold one stream, and another goes on when its tab closes", async () => {
  const tabs: Page[] = [];
  for (let count = 0; count < 8; count += 1) tabs.push(await tab());
  for (const page of tabs) await untilStatus(page, "live");
  await untilStreams(1);
  await doorbell.send("alice", "to all");
  for (const page of tabs) await untilBell(page, unseen(1));
  // The first has the stream.
  await tabs.shift()?.close();
  await doorbell.send("alice", "to the rest");
  for (const page of tabs) await untilBell(page, unseen(2));
  await untilStreams(1);
});

test("hidden, the stream is given up and polls go on; shown, it resumes", async () => {
  const options = { hiddenGrace: 200, pollInterval: 1000 };
  const [one, other] = [await tab("ALICE", options), await tab("ALICE", options)];
  for (const page of [one, other]) await untilStatus(page, "live");
  await show(other, false);
  await show(one, false);
  await untilStreams(0);
  await untilStatus(one, "polling");
  await doorbell.send("alice", "unseen");
  await untilBell(one, unseen(1));
  await untilBell(other, unseen(1));
  expect(await streams()).toBe(0);
  await show(other, true);
  await untilStreams(1);
  await untilStatus(other, "live");
  await doorbell.send("alice", "seen");
  await untilBell(other, unseen(2), 1000);
  // What a poll has found was told as well.
  expect(await other.evaluate(() => window.announced)).toEqual(["unseen", "seen"]);
});

test("what is archived in one tab is in the archive of the other, comes back, and is removed", async () => {
  for (const title of ["one", "two", "three"]) await doorbell.send("alice", title);
  const [page, other] = [await tab(), await tab()];
  for (const each of [page, other]) await untilBell(each, unseen(3));
  const lists = (each: Page) =>
    each.evaluate(() => {
      const archive = (window.archive ??= window.inbox.view({ show: "archived" }));
      const of = [window.inbox.getSnapshot(), archive.getSnapshot()];
      return of.map(({ notifications }) => notifications.map(({ title }) => title).join());
    });
  const untilLists = async (...said: string[]) => {
    for (const each of [page, other]) {
      await until(`${said}`, async () => String(await lists(each)) === String(said));
    }
  };
  await untilLists("three,two,one", "");
  const act = (verb: "archive" | "unarchive" | "remove" | "markUnread", title: string) =>
    page.evaluate(
      async ([verb, title]) => {
        const all = [window.inbox.getSnapshot(), window.archive!.getSnapshot()];
        const row = all.flatMap(({ notifications }) => notifications).find((row) => row.title === title);
        await window.inbox[verb]([row?.id ?? ""]);
      },
      [verb, title] as const,
    );
  await act("archive", "two");
  await untilLists("three,one", "two");
  await untilBell(other, unseen(2));
  await act("unarchive", "two");
  await untilLists("three,two,one", "");
  await act("remove", "one");
  await untilLists("three,two", "");
  await page.evaluate(() => window.inbox.markAllRead());
  await untilUnread(other, 0);
  await act("markUnread", "three");
  await untilUnread(other, 1);
  await page.evaluate(() => window.inbox.archiveAll());
  await untilLists("", "three,two");
  await untilUnread(other, 0);
});

test("a token that ends is renewed before, and the stream goes on", async () => {
  let minted = 0;
  const page = await context.newPage();
  await page.exposeFunction("mint", async () => {
    minted += 1;
    return await doorbell.mint("11s");
  });
  await page.addInitScript((baseUrl) => {
    window.options = { baseUrl };
  }, doorbell.url);
  await page.goto(stage.pages.url());
  await untilStatus(page, "live");
  // A stream that breaks and comes back would say so.
  await page.evaluate(() => {
    const { inbox } = window;
    window.statuses = [];
    inbox.subscribe(() => window.statuses.push(inbox.getSnapshot().status));
  });
  const first = minted;
  await until("a third token", () => minted >= first + 2, 30_000);
  await doorbell.send("alice", "later");
  await untilBell(page, unseen(1), 1000);
  const statuses = await page.evaluate(() => window.statuses);
  expect(statuses.length).toBeGreaterThan(0);
  expect(statuses.filter((status) => status !== "live")).toEqual([]);
});

test("a page of a foreign origin is refused", async () => {
  const given = { baseUrl: doorbell.url, token: doorbell.token("ALICE") };
  const page = await openTab(context, stage.pages.url("foreign.localhost"), given);
  const refused = page.waitForEvent("console", (message) => message.text().includes("CORS"));
  await refused;
  const said = page.waitForEvent("console", (message) => message.text().startsWith("Doorbell:"));
  await untilStatus(page, "reconnecting");
  expect((await said).text()).toContain(`add ${new URL(stage.pages.url("foreign.localhost")).origin}`);
  expect(await page.evaluate(() => window.inbox.getSnapshot().isLoaded)).toBe(false);
  await untilProblem(page, "cors");
});

test("a service that is down and a policy that forbids it are told apart", async () => {
  const page = await tab();
  await untilStatus(page, "live");
  await doorbell.kill();
  await untilProblem(page, "unreachable");
  await context.route(stage.pages.url(), async (route) => {
    const response = await route.fetch();
    const policy = { "content-security-policy": "connect-src 'self'" };
    await route.fulfill({ response, headers: { ...response.headers(), ...policy } });
  });
  await page.reload();
  await untilProblem(page, "csp");
});

test("where something on the way holds streams back the bell goes on by polls", async () => {
  await doorbell.send("alice", "before");
  const holding = new Holding(doorbell.url);
  const page = await tab("ALICE", { baseUrl: await holding.start(), pollInterval: 1000 });
  await untilBell(page, unseen(1));
  await until("it is noticed", async () => (await statusOf(page)) === "delayed", 45_000);
  await untilProblem(page, "held");
  await doorbell.send("alice", "meanwhile");
  await untilBell(page, unseen(2));
  expect(await page.evaluate(() => window.announced)).toEqual(["meanwhile"]);
  holding.isHolding = false;
  await page.evaluate(() => window.inbox.retry());
  await untilStatus(page, "live");
  await doorbell.send("alice", "after");
  await untilBell(page, unseen(3), 1000);
  holding.stop();
});

test("a mark made while the service is away is sent once it is there again", async () => {
  await doorbell.send("alice", "one");
  const page = await tab();
  await untilBell(page, unseen(1));
  await untilStatus(page, "live");
  await doorbell.kill();
  await untilStatus(page, "reconnecting");
  const held = await page.evaluate(async () => {
    const { inbox } = window;
    await inbox.markRead(inbox.getSnapshot().notifications.map(({ id }) => id));
    return inbox.getSnapshot().pendingMarks;
  });
  expect(held).toBe(1);
  await page.reload();
  await untilBell(page, unseen(1));
  expect(await page.evaluate(() => window.inbox.getSnapshot().pendingMarks)).toBe(1);
  await doorbell.restart();
  await untilBell(page, NONE, 45_000);
  expect(await page.evaluate(() => window.inbox.getSnapshot().pendingMarks)).toBe(0);
});

test("a reload waits for no token where the page says who is there", async () => {
  await doorbell.send("alice", "kept");
  const page = await tab("ALICE", { user: "alice" });
  await untilBell(page, unseen(1));
  await until("it is kept", () => page.evaluate(() => localStorage.length > 0));
  // The page has a token only when it is told so.
  let give: () => void = () => undefined;
  const given = new Promise<void>((done) => (give = done));
  await page.exposeFunction("mint", async () => {
    await given;
    return doorbell.token("ALICE");
  });
  await page.addInitScript(() => delete window.options.token);
  await page.reload();
  await untilBell(page, unseen(1));
  expect(await statusOf(page)).toBe("connecting");
  give();
  await untilStatus(page, "live");
  await page.evaluate(() => window.inbox.stop({ forget: true }));
  expect(await page.evaluate(() => localStorage.length)).toBe(0);
});

test("in a sandbox, where locks are refused, it is on its own", async () => {
  const page = await tab();
  await page.evaluate(() => {
    const frame = document.createElement("iframe");
    frame.sandbox.add("allow-scripts");
    frame.src = location.href;
    document.body.append(frame);
  });
  const frame = await until("the frame", () => page.frames()[1]);
  // It asks the service, which refuses what is of no origin.
  await until("it begins", async () => {
    const status = await frame.evaluate(() => window.inbox?.getSnapshot().status);
    return status === "reconnecting";
  });
  const asks = () => navigator.locks.request("a lock", () => undefined);
  await expect(frame.evaluate(asks)).rejects.toThrow("denied");
});

test("a reload shows the inbox before anything is asked, even without a service", async () => {
  await doorbell.send("alice", "kept");
  const page = await tab();
  await untilBell(page, unseen(1));
  await untilStatus(page, "live");
  await until("it is kept", () => page.evaluate(() => localStorage.length > 0));
  await doorbell.kill();
  await page.reload();
  await untilBell(page, unseen(1));
});

test("the bell is used by keyboard alone", async () => {
  await doorbell.send("alice", "first");
  await doorbell.send("alice", "second");
  const page = await tab();
  await untilBell(page, unseen(2));
  const focused = () => page.evaluate(() => document.activeElement?.className ?? "");
  await page.keyboard.press("Tab");
  expect(await focused()).toBe("doorbell-bell");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog", { name: "Notifications" }).waitFor();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await untilUnread(page, 1);
  expect(await page.locator("[data-unread] .doorbell-subject").allTextContents()).toEqual(["second"]);
  await page.keyboard.press("Escape");
  expect(await focused()).toBe("doorbell-bell");
  expect(await page.getByRole("dialog").count()).toBe(0);
});

test("older ones come as one scrolls, down to the first", async () => {
  for (let number = 1; number <= 45; number += 1) await doorbell.send("alice", `number ${number}`);
  const page = await tab();
  await untilBell(page, unseen(45));
  await page.locator(".doorbell-bell").click();
  const first = page.locator(".doorbell-item", { has: page.getByText("number 1", { exact: true }) });
  await until("the first is there", async () => {
    await page.locator(".doorbell-panel").evaluate((panel) => panel.scrollTo(0, panel.scrollHeight));
    return (await first.count()) === 1;
  });
  expect(await first.getAttribute("aria-posinset")).toBe("45");
  expect(await first.getAttribute("aria-setsize")).toBe("45");
  expect(await page.locator(".doorbell-more").count()).toBe(0);
});

test("what traces the calls of a page does not stop its bell", async () => {
  await context.addInitScript(() => {
    const fetch = window.fetch;
    window.fetch = (input, init) => {
      const headers = new Headers(init?.headers);
      for (const name of [
        ...["traceparent", "tracestate", "baggage", "sentry-trace", "b3", "x-b3-traceid"],
        ...["x-datadog-trace-id", "newrelic", "x-amzn-trace-id", "x-cloud-trace-context"],
      ]) {
        headers.set(name, "1");
      }
      return fetch(input, { ...init, headers });
    };
  });
  const page = await tab();
  await untilStatus(page, "live");
  await doorbell.send("alice", "traced");
  await untilBell(page, unseen(1));
});

const LOOKS = [
  { name: "light", colorScheme: "light", viewport: { width: 1200, height: 820 } },
  { name: "dark", colorScheme: "dark", viewport: { width: 1200, height: 820 } },
  { name: "narrow", colorScheme: "light", viewport: { width: 390, height: 780 } },
] as const;

for (const { name, ...look } of LOOKS) {
  test(`the live page works and is readable, ${name}`, async () => {
    const seen = await stage.browser.newContext({ ...look, locale: "en-GB" });
    const page = await seen.newPage();
    const problems: string[] = [];
    page.on("console", (message) => {
      if (message.type() === "error") problems.push(message.text());
    });
    await page.goto(doorbell.link);
    for (const user of ["alice", "bob"]) {
      await until("it is live", async () => {
        return (await page.getByTestId(`${user}-status`).textContent()) === "live";
      });
    }
    // The tokens of the link are not in the address any more, and a reload has them.
    expect(page.url()).toBe(`${doorbell.url}/`);
    await page.reload();
    const title = page.getByLabel("Title");
    for (const text of ["Bob commented on your plan", "Your report is ready"]) {
      await title.fill(text);
      await page.getByRole("button", { name: "Ring", exact: true }).click();
      await page.getByText("Sent: revision").waitFor();
    }
    const alice = page.getByRole("region", { name: "Alice's screen" });
    const bob = page.getByRole("region", { name: "Bob's screen" });
    await alice.getByRole("button", { name: unseen(2) }).click();
    await alice.getByText("Bob commented on your plan").first().waitFor();
    expect(await bob.getByRole("button", { name: NONE }).count()).toBe(1);
    expect(await findings(page)).toEqual([]);
    await page.screenshot({ path: `browser/shots/live-${name}.png` });
    await page.keyboard.press("Escape");

    // Cut, rung, and back: nothing is missed.
    await alice.getByRole("button", { name: "Cut the connection" }).click();
    await title.fill("While you were away");
    await page.getByRole("button", { name: "Ring", exact: true }).click();
    await page.getByText(", 3 unread.").waitFor();
    expect(await alice.getByRole("button", { name: "Notifications", exact: true }).count()).toBe(1);
    await alice.getByRole("button", { name: "Come back" }).click();
    await alice.getByRole("button", { name: unseen(1) }).waitFor();
    expect(problems.filter((text) => !text.includes("favicon"))).toEqual([]);
    await seen.close();
  });

  test(`the bell is readable, ${name}`, async () => {
    const seen = await stage.browser.newContext({ ...look, locale: "en-GB" });
    await doorbell.send("alice", "Your report is ready");
    await doorbell.send("alice", "Bob commented on a plan with quite a long name, which takes two lines");
    const given = { baseUrl: doorbell.url, token: doorbell.token("ALICE") };
    const page = await openTab(seen, stage.pages.url(), given);
    await untilBell(page, unseen(2));
    await page.locator(".doorbell-bell").click();
    await page.getByRole("button", { name: "Mark as read: Your report is ready" }).click();
    await untilUnread(page, 1);
    await page.getByRole("button", { name: "Mark all as read" }).waitFor();
    await untilBell(page, NONE);
    expect(await findings(page)).toEqual([]);
    const width = Math.min(400, look.viewport.width);
    const clip = { x: look.viewport.width - width, y: 60, width, height: 330 };
    await page.screenshot({ path: `browser/shots/bell-${name}.png`, clip });
    await seen.close();
  });
}

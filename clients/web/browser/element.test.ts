// What only the element has: attributes and properties, events, parts, and a shadow root.

import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { Page } from "playwright-core";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { InboxElement } from "../src/element/index.js";
import { Doorbell, until, untilBell } from "./service.js";
import { setUp } from "./stage.js";

const stage = setUp("own");
let page: Page;
let complaints: string[];

beforeEach(async () => {
  page = await stage.browser.newPage({ locale: "en-GB" });
  complaints = [];
  page.on("console", (message) => {
    if (message.type() === "error" && message.text().startsWith("Doorbell")) complaints.push(message.text());
  });
  await page.goto(`${stage.pages.url()}own.html`);
  await until("the page is there", () => page.evaluate(() => "register" in window));
});

afterEach(async () => {
  await page?.close();
});

const calls = (name: string) =>
  page.evaluate((wanted) => window.scripted.calls.filter((call) => call === wanted).length, name);
const list = (...titles: string[]) => page.evaluate((given) => window.scripted.list(...given), titles);
const panel = () => page.getByRole("dialog");
/** What has the focus in the element. */
const focused = () =>
  page.evaluate(() => document.querySelector("doorbell-inbox")?.shadowRoot?.activeElement?.className ?? "");

/** Puts the element into the page, with these attributes. */
async function put(attributes = ""): Promise<void> {
  await page.evaluate(async (text) => {
    await window.register();
    const place = document.getElementById("place");
    if (place) place.innerHTML = `<doorbell-inbox ${text}></doorbell-inbox>`;
    const element = document.querySelector("doorbell-inbox");
    if (element) element.client = window.scripted;
  }, attributes);
  await page.locator(".doorbell-bell").waitFor();
}

const set = (props: Partial<Pick<InboxElement, "tabs" | "preferences" | "open" | "locale" | "theme">>) =>
  page.evaluate((given) => void Object.assign(document.querySelector("doorbell-inbox") ?? {}, given), props);

test("attributes say what properties do, the later one holds, and what is none is said", async () => {
  await put('tabs="archived all" theme="dark" placement="bottom" undo-duration="soon" open');
  await panel().waitFor();
  expect(await page.getByRole("tab").allTextContents()).toEqual(["Archived", "All"]);
  expect(await page.locator(".doorbell[data-theme=dark]").count()).toBe(1);
  expect(complaints.map((text) => /(placement|undo-duration) is (one of|a number)/.exec(text)?.[1])).toEqual([
    "placement",
    "undo-duration",
  ]);
  expect(await page.getByRole("button", { name: "Preferences" }).count()).toBe(0);
  await set({ tabs: true, preferences: true });
  await page.getByRole("tab", { name: "Unread" }).waitFor();
  await page.getByRole("button", { name: "Preferences" }).waitFor();
  await page.evaluate(() => document.querySelector("doorbell-inbox")?.setAttribute("tabs", "false"));
  await page.getByRole("tab").first().waitFor({ state: "detached" });
  await page.evaluate(() => document.querySelector("doorbell-inbox")?.removeAttribute("open"));
  await panel().waitFor({ state: "detached" });
  await set({ open: true });
  await panel().waitFor();
  expect(await page.locator("doorbell-inbox[open]").count()).toBe(1);
});

test("what was set before it was registered holds, and nothing is shown until it has an inbox", async () => {
  const early = await page.evaluate(async () => {
    const element = document.createElement("doorbell-inbox");
    document.getElementById("place")?.append(element);
    Object.assign(element, { labels: { bell: (unseen: number) => `Neues: ${unseen}` } });
    await window.register();
    await new Promise(requestAnimationFrame);
    const root = element.shadowRoot;
    const isEmpty = root?.childElementCount === 0 && element.client === undefined;
    element.client = window.scripted;
    return isEmpty;
  });
  expect(early).toBe(true);
  await list("one", "two");
  await page.getByRole("button", { name: "Neues: 2" }).waitFor();
});

test("its events bubble out of shadow roots, and a choice that is prevented is the page's", async () => {
  await page.evaluate(async () => {
    await window.register();
    const host = document.createElement("section");
    const element = document.createElement("doorbell-inbox");
    element.client = window.scripted;
    host.attachShadow({ mode: "open" }).append(element);
    document.body.append(host);
    for (const name of ["open", "close", "notification", "select", "action"]) {
      document.addEventListener(`doorbell-${name}`, (event) => {
        const { detail } = event as CustomEvent;
        window.told.push(name, detail?.action?.label ?? detail?.notification?.title ?? detail?.notifications?.[0]?.title);
        if (window.told.length < 8) event.preventDefault();
      });
    }
    window.scripted.list("one");
    window.scripted.edit({ actionUrl: "#there", actions: [{ label: "Pay", url: "/own.html#paid", isPrimary: true }] });
    window.scripted.edit({ actionUrl: "/own.html#there" });
  });
  const told = () => page.evaluate(() => window.told.splice(0).filter(Boolean));
  await page.locator(".doorbell-bell").click();
  await page.evaluate(() => window.scripted.ring("door"));
  await page.getByRole("link", { name: "one" }).click();
  expect(await told()).toEqual(["open", "notification", "door", "select", "one"]);
  await panel().waitFor();
  expect(page.url()).not.toContain("#");
  await page.getByRole("link", { name: "Pay" }).click();
  expect(await told()).toEqual(["action", "Pay"]);
  expect(page.url()).not.toContain("#");
  await page.keyboard.press("Escape");
  await panel().waitFor({ state: "detached" });
  await page.locator(".doorbell-bell").click();
  expect(await told()).toEqual(["close", "open"]);
  // Nobody prevents it: the link is followed, and the list closes.
  await page.evaluate(() => window.told.push(..."........"));
  await page.getByRole("link", { name: "one" }).click();
  await panel().waitFor({ state: "detached" });
  expect(page.url()).toContain("#there");
});

test("moved it goes on, taken out it stops, put back it starts again", async () => {
  await put();
  await until("it began", async () => (await calls("start")) > 0);
  await list("one");
  await page.evaluate(() => {
    const element = document.querySelector("doorbell-inbox");
    if (element) document.querySelector("main")?.append(element);
  });
  await page.getByRole("button", { name: "Notifications, 1 new" }).waitFor();
  expect(await page.evaluate(() => window.scripted.hearers)).toBeGreaterThan(0);
  await page.evaluate(async () => {
    // What would be put off is over by then.
    for (let turn = 0; turn < 3; turn += 1) await new Promise((done) => setTimeout(done));
  });
  expect(await calls("stop")).toBe(0);
  await page.evaluate(() => {
    const element = document.querySelector("doorbell-inbox");
    element?.remove();
    Object.assign(window, { kept: element });
  });
  await until("it stopped", async () => (await calls("stop")) === 1);
  expect(await page.evaluate(() => window.scripted.hearers)).toBe(0);
  const starts = await calls("start");
  await page.evaluate(() => document.body.append((window as unknown as { kept: Element }).kept));
  await until("it began again", async () => (await calls("start")) > starts);
  await page.getByRole("button", { name: "Notifications, 1 new" }).waitFor();
});

test("the focus stays in its list, and the list closes when it goes elsewhere", async () => {
  await put();
  await list("three", "two", "one");
  await page.locator(".doorbell-bell").focus();
  await page.keyboard.press("Enter");
  await until("the list has the focus", async () => (await focused()) === "doorbell-panel");
  await page.keyboard.press("ArrowDown");
  await until("a row has the focus", async () => (await focused()) === "doorbell-open");
  await page.evaluate(() => window.scripted.list("two", "one"));
  await until("the next row has it", () =>
    page.evaluate(() => {
      const active = document.querySelector("doorbell-inbox")?.shadowRoot?.activeElement;
      return active?.textContent?.includes("two");
    }),
  );
  await page.keyboard.press("Escape");
  await until("the bell has the focus", async () => (await focused()) === "doorbell-bell");
  await page.keyboard.press("Enter");
  await panel().waitFor();
  await page.locator("#other").focus();
  await panel().waitFor({ state: "detached" });
  expect(await page.evaluate(() => document.activeElement?.id)).toBe("other");
  await page.evaluate(() => document.querySelector("doorbell-inbox")?.focus());
  expect(await focused()).toBe("doorbell-bell");
});

test("a page styles it by parts and variables, and nothing else of its style comes in", async () => {
  await page.addStyleTag({
    content: `:root { --doorbell-badge: rgb(1, 2, 3) }
      doorbell-inbox::part(badge) { border-radius: 5px }
      doorbell-inbox::part(item unread) { scroll-margin: 7px }
      .doorbell-badge { border-radius: 9px }`,
  });
  await put("open");
  await list("one");
  await page.locator(".doorbell-item").waitFor();
  const style = (selector: string, name: string) =>
    page.evaluate(
      ([where, what]) => {
        const found = document.querySelector("doorbell-inbox")?.shadowRoot?.querySelector(where ?? "");
        return found && getComputedStyle(found).getPropertyValue(what ?? "");
      },
      [selector, name],
    );
  expect(await style(".doorbell-badge", "border-top-left-radius")).toBe("5px");
  expect(await style(".doorbell-badge", "background-color")).toBe("rgb(1, 2, 3)");
  expect(await style(".doorbell-item", "scroll-margin-top")).toBe("7px");
  await page.evaluate(() => window.scripted.edit({ readAt: new Date().toISOString() }));
  await until("it is read", async () => (await style(".doorbell-item", "scroll-margin-top")) === "0px");
});

test("a long text is cut, and shown whole to who asks for it", async () => {
  await put("open");
  await list("one");
  await page.evaluate(() => window.scripted.edit({ body: "A few words more. ".repeat(40) }));
  const height = async () => (await page.locator(".doorbell-body").boundingBox())?.height ?? 0;
  await page.getByRole("button", { name: "Show more: one" }).waitFor();
  const before = await height();
  await page.getByRole("button", { name: "Show more: one" }).click();
  await page.getByRole("button", { name: "Show less: one" }).click();
  await page.getByRole("button", { name: "Show more: one" }).waitFor();
  await until("it is cut again", async () => (await height()) === before);
});

test("parts of the page's own are nodes and texts, and stay until they change", async () => {
  await put("open");
  await page.evaluate(() => {
    const element = document.querySelector("doorbell-inbox");
    if (!element) return;
    element.slots = {
      bell: ({ unseenCount }) => `${unseenCount}!`,
      image: ({ title }) => {
        const image = document.createElement("b");
        image.textContent = title.toUpperCase();
        return image;
      },
      actions: () => null,
      empty: () => undefined,
    };
  });
  await panel().getByText("Loading…").waitFor();
  await list();
  await panel().getByText("Nothing here yet.").waitFor();
  await list("two", "one");
  await page.locator(".doorbell-bell").getByText("2!").waitFor();
  expect(await page.locator(".doorbell-row b").allTextContents()).toEqual(["TWO", "ONE"]);
  await page.evaluate(() => {
    document.querySelector("doorbell-inbox")?.shadowRoot?.querySelector("b")?.setAttribute("data-former", "");
    window.scripted.add("three");
  });
  await page.locator(".doorbell-row b").getByText("THREE").waitFor();
  expect(await page.locator("b[data-former]").allTextContents()).toEqual(["TWO"]);
});

test("the list stays at the bell where what is scrolled is in another shadow root", async () => {
  await page.evaluate(async () => {
    await window.register();
    const host = document.createElement("section");
    const box = document.createElement("div");
    Object.assign(box.style, { height: "150px", overflow: "auto" });
    const tall = document.createElement("div");
    tall.style.height = "900px";
    const element = document.createElement("doorbell-inbox");
    element.client = window.scripted;
    tall.append(element);
    box.append(tall);
    host.attachShadow({ mode: "open" }).append(box);
    document.body.append(host);
    window.scripted.list("one");
  });
  await page.locator(".doorbell-bell").click();
  await panel().waitFor();
  const gap = async () => {
    const [bell, list] = [await page.locator(".doorbell-bell").boundingBox(), await panel().boundingBox()];
    return Math.round((list?.y ?? 0) - (bell?.y ?? 0) - (bell?.height ?? 0));
  };
  expect(await gap()).toBe(8);
  const before = await panel().boundingBox();
  await page.evaluate(() => document.querySelector("section")?.shadowRoot?.querySelector("div")?.scrollBy(0, 30));
  await until("it went with the bell", async () => (await panel().boundingBox())?.y !== before?.y);
  expect(await gap()).toBe(8);
});

test("the page of the README rings, with no bundler and under a strict policy", async () => {
  const read = (path: string) => readFileSync(resolve(import.meta.dirname, "..", path), "utf8");
  const doorbell = await Doorbell.start();
  const context = await stage.browser.newContext();
  try {
    /** What the README has for this file. */
    const snippet = (name: string) => {
      const found = new RegExp(`\`\`\`\\w+\\n((?://|<!--) ${name}[^]*?)\`\`\``).exec(read("README.md"))?.[1];
      return found?.replace("https://doorbell.example.com", doorbell.url) ?? "";
    };
    const { pages } = stage;
    pages.texts.set("/plain.html", `<!doctype html><title>A page</title>${snippet("index.html")}`);
    pages.texts.set("/bell.js", snippet("bell.js"));
    pages.texts.set("/standalone.js", read("dist/standalone.js"));
    pages.texts.set("/doorbell-token", doorbell.token("ALICE"));
    pages.policy = `default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ${doorbell.url}`;
    const plain = await context.newPage();
    const said: string[] = [];
    plain.on("console", (message) => said.push(message.text()));
    await plain.goto(`${pages.url()}plain.html`);
    await untilBell(plain, "Notifications");
    await until("it is live", () =>
      plain.evaluate(() => document.querySelector("doorbell-inbox")?.client?.getSnapshot().status === "live"),
    );
    await doorbell.send("alice", "A door");
    await untilBell(plain, "Notifications, 1 new");
    await until("the page is told", () => said.includes("ring: A door"));
    await plain.locator(".doorbell-bell").click();
    await plain.getByRole("tab", { name: "Archived" }).waitFor();
    expect(said).toEqual(["ring: A door"]);
  } finally {
    stage.pages.policy = undefined;
    await context.close();
    await doorbell.stop();
  }
});

test("a button of the page that names it opens it and closes it", async () => {
  await put('id="inbox"');
  await page.evaluate(() => {
    const [button, element] = [document.getElementById("other"), document.querySelector("doorbell-inbox")];
    button?.setAttribute("aria-controls", "inbox");
    // Where the list does not cover it.
    Object.assign(button?.style ?? {}, { position: "fixed", bottom: "0" });
    button?.addEventListener("click", () => element && (element.open = !element.open));
  });
  const press = () => page.locator("#other").click();
  await press();
  await panel().waitFor();
  await press();
  await panel().waitFor({ state: "detached" });
  await press();
  await panel().waitFor();
  await page.evaluate(() => document.getElementById("other")?.removeAttribute("aria-controls"));
  await page.locator("h1").click();
  await panel().waitFor({ state: "detached" });
});

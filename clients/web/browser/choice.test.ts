// What follows a choice, where the list stands, and what the page puts into it.

import type { Page } from "playwright-core";
import { afterEach, beforeEach, expect, test } from "vitest";
import { findings, until } from "./service.js";
import { setUp } from "./stage.js";

const stage = setUp();
let page: Page;

beforeEach(async () => {
  page = await (await stage.browser.newContext({ locale: "en-GB" })).newPage();
  await page.goto(`${stage.pages.url()}scripted.html`);
  await page.locator(".doorbell-bell").waitFor();
  await page.evaluate(() => window.scripted.list("two", "one"));
});

afterEach(async () => {
  await page?.context().close();
});

const open = () => page.locator(".doorbell-bell").click();
const panel = () => page.getByRole("dialog");
const selected = () => page.evaluate(() => window.selected);
const link = (name: string) => page.getByRole("link", { name });

test("the page follows links of its own origin, the browser all others and other tabs", async () => {
  await page.evaluate(() => {
    window.scripted.edit({
      actionUrl: `${location.origin}/plans/7?a=b#c`,
      actions: [
        { label: "Reply", url: "/reply", isPrimary: true },
        { label: "Away", url: "http://127.0.0.1:9/away", isPrimary: false },
      ],
    });
    window.render({ navigate: (url, { title }) => window.selected.push(`${title} ${url}`) });
  });
  await open();
  await link("two").click();
  expect(await selected()).toEqual(["two /plans/7?a=b#c"]);
  // It is followed here, so the list has closed, and the bell has the focus.
  await panel().waitFor({ state: "detached" });
  expect(await page.evaluate(() => document.activeElement?.className)).toBe("doorbell-bell");
  await open();
  await link("Reply").first().click();
  expect((await selected()).at(-1)).toBe("two /reply");
  await open();
  const tabs = () => page.context().pages().length;
  await link("one").click({ modifiers: ["ControlOrMeta"] });
  await until("it is another tab", () => tabs() === 2);
  await link("one").click({ button: "middle" });
  await until("it is a third", () => tabs() === 3);
  expect((await selected()).length).toBe(2);
  expect(await panel().count()).toBe(1);
  await page.route("http://127.0.0.1:9/away", (route) => route.fulfill({ status: 204 }));
  const asked = page.waitForRequest("http://127.0.0.1:9/away");
  await link("Away").first().click();
  await asked;
  expect((await selected()).length).toBe(2);
});

test("who hears of a choice may prevent what follows", async () => {
  await page.evaluate(() => {
    window.scripted.edit({ actionUrl: "/away", actions: [{ label: "Reply", url: "/reply", isPrimary: true }] });
    window.render({
      onSelect: ({ title }, event) => {
        event.preventDefault();
        window.selected.push(title);
      },
      onAction: ({ label }, { title }, event) => {
        event.preventDefault();
        window.selected.push(`${title} ${label}`);
      },
      navigate: (url) => window.selected.push(url),
    });
  });
  await open();
  await link("two").click();
  await link("Reply").last().click();
  expect(await selected()).toEqual(["two", "one Reply"]);
  expect(await panel().count()).toBe(1);
  expect(page.url()).toContain("scripted.html");
  const calls = await page.evaluate(() => window.scripted.calls);
  expect(calls.filter((call) => call.startsWith("markRead"))).toEqual(["markRead 2", "markRead 1"]);
});

test("a choice closes the list, or does not, as the page says", async () => {
  await page.evaluate(() => window.render({ closeOnSelect: true }));
  await open();
  await page.getByRole("button", { name: "two" }).first().click();
  await panel().waitFor({ state: "detached" });
  await page.evaluate(() => {
    window.scripted.edit({ actionUrl: "/scripted.html#here" });
    window.render({ closeOnSelect: false });
  });
  await open();
  await link("one").click();
  await until("it is followed", () => page.url().endsWith("#here"));
  expect(await panel().count()).toBe(1);
});

test("the page may open and close it", async () => {
  const render = (isOpen: boolean) =>
    page.evaluate((given) => {
      window.render({ open: given, onOpenChange: (wanted) => window.selected.push(String(wanted)) });
    }, isOpen);
  await render(false);
  await open();
  expect(await selected()).toEqual(["true"]);
  expect(await panel().count()).toBe(0);
  await render(true);
  await panel().waitFor();
  await page.keyboard.press("Escape");
  expect(await selected()).toEqual(["true", "false"]);
  expect(await panel().count()).toBe(1);
  await render(false);
  await panel().waitFor({ state: "detached" });
});

test("a button of the page that names it opens it and closes it, and any other only closes it", async () => {
  await page.evaluate(() => {
    const button = (text: string, controls: string) => {
      const made = document.createElement("button");
      made.textContent = text;
      // Where the list does not cover it.
      Object.assign(made.style, { position: "fixed", bottom: "0", left: text === "Toggle" ? "0" : "50%" });
      made.setAttribute("aria-controls", controls);
      document.body.append(made);
      return made;
    };
    let isOpen = false;
    const show = (wanted: boolean) => {
      isOpen = wanted;
      window.selected.push(String(wanted));
      window.render({ id: "inbox", open: isOpen, onOpenChange: show });
    };
    show(false);
    button("Toggle", "menu inbox").addEventListener("click", () => show(!isOpen));
    button("Other", "menu");
  });
  const press = (name: string) => page.getByRole("button", { name }).click();
  await press("Toggle");
  await panel().waitFor();
  await press("Toggle");
  await panel().waitFor({ state: "detached" });
  await press("Toggle");
  await panel().waitFor();
  await press("Other");
  await panel().waitFor({ state: "detached" });
  expect(await selected()).toEqual(["false", "true", "false", "true", "false"]);
});

test("who tabs out of it closes it, also out of the page", async () => {
  await open();
  await page.keyboard.press("End");
  for (let left = 10; left > 0 && (await panel().count()) > 0; left -= 1) await page.keyboard.press("Tab");
  expect(await panel().count()).toBe(0);
});

test("who opens it by the keys sees where the focus is", async () => {
  await page.locator(".doorbell-bell").focus();
  await page.keyboard.press("Enter");
  await panel().waitFor();
  const outline = await panel().evaluate((element) => {
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    return [document.activeElement === element, outlineStyle, outlineWidth];
  });
  expect(outline).toEqual([true, "solid", "2px"]);
});

test("it stands where the page wishes", async () => {
  await page.addStyleTag({
    content: "#place { position: fixed; inset: 340px auto auto 450px; overflow: hidden } body { margin: 0 }",
  });
  await page.setViewportSize({ width: 1000, height: 740 });
  const spots = {
    "below-end": ["right", "below"],
    "below-start": ["left", "below"],
    "above-end": ["right", "above"],
    "above-start": ["left", "above"],
    after: ["", "after"],
    before: ["", "before"],
  } as const;
  for (const dir of ["ltr", "rtl"] as const) {
    for (const [placement, [edge, side]] of Object.entries(spots)) {
      await page.evaluate(
        ([direction, given]) => {
          document.documentElement.dir = direction ?? "";
          window.render({ open: true, placement: given as "after" });
        },
        [dir, placement],
      );
      const [bell, list] = await page.evaluate(async () => {
        for (let left = 2; left > 0; left -= 1) await new Promise(requestAnimationFrame);
        return [".doorbell-bell", ".doorbell-panel"].map((name) => {
          const { left = 0, right = 0, top = 0, bottom = 0 } = document.querySelector(name)?.getBoundingClientRect() ?? {};
          return { left, right, top, bottom };
        });
      });
      if (!bell || !list) throw new Error("there is none");
      const isRtl = dir === "rtl";
      const where = `${placement}, ${dir}`;
      if (side === "below") expect(list.top - bell.bottom, where).toBe(8);
      if (side === "above") expect(bell.top - list.bottom, where).toBe(8);
      if (side === "after") expect(isRtl ? bell.left - list.right : list.left - bell.right, where).toBe(8);
      if (side === "before") expect(isRtl ? list.left - bell.right : bell.left - list.right, where).toBe(8);
      const isLeft = (edge === "left") !== isRtl;
      if (edge) expect(isLeft ? list.left - bell.left : list.right - bell.right, where).toBe(0);
    }
  }
});

test("an image is shown, and initials where there is none or it does not come", async () => {
  await page.route("**/bob.png", (route) =>
    route.fulfill({ contentType: "image/svg+xml", body: "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>" }),
  );
  await page.evaluate(() => {
    window.scripted.list("Bob wrote", "Is gone", "has none", "Is refused");
    const images = ["/bob.png", "/missing.png", undefined, "javascript:alert(1)"];
    const { notifications } = window.scripted.getSnapshot();
    window.scripted.set({
      notifications: notifications.map((row, at) => {
        const imageUrl = images[at];
        return imageUrl === undefined ? row : { ...row, imageUrl };
      }),
    });
  });
  await open();
  await until("initials stand for it", async () => (await page.locator("span.doorbell-image").count()) === 3);
  expect(await page.locator("span.doorbell-image").allInnerTexts()).toEqual(["IG", "HN", "IR"]);
  expect(await page.locator("img.doorbell-image").getAttribute("src")).toBe("/bob.png");
});

test("a long text is cut, and shown whole to who asks for it", async () => {
  const body = "A few words more, of which some are to be seen. ".repeat(12);
  await page.evaluate((text) => {
    const { notifications } = window.scripted.getSnapshot();
    window.scripted.set({ notifications: notifications.map((row, at) => ({ ...row, body: at === 0 ? text : "Short." })) });
  }, body);
  await open();
  const more = page.getByRole("button", { name: "Show more: two" });
  await more.waitFor();
  expect(await page.getByText("Show more").count()).toBe(1);
  const height = async () => (await page.locator(".doorbell-body").first().boundingBox())?.height ?? 0;
  const before = await height();
  await more.click();
  expect(await height()).toBeGreaterThan(before * 2);
  await page.getByRole("button", { name: "Show less: two" }).click();
  expect(await height()).toBe(before);
});

test("the badge leaves the bell to be seen, however many are new", async () => {
  for (const unseenCount of [1, 42, 12345]) {
    await page.evaluate((count) => window.scripted.set({ unseenCount: count }), unseenCount);
    const covered = await page.evaluate(() => {
      const [badge, bell] = [".doorbell-badge", ".doorbell-bell > svg"].map(
        (name) => document.querySelector(name)?.getBoundingClientRect() ?? new DOMRect(),
      );
      if (!badge || !bell) return 1;
      const width = Math.min(badge.right, bell.right) - Math.max(badge.left, bell.left);
      const height = Math.min(badge.bottom, bell.bottom) - Math.max(badge.top, bell.top);
      return (Math.max(0, width) * Math.max(0, height)) / (bell.width * bell.height);
    });
    expect(covered, String(unseenCount)).toBeLessThan(0.2);
  }
});

test("each part is the page's to replace", async () => {
  await page.evaluate(() => {
    window.scripted.edit({ actions: [{ label: "Reply", url: "/reply", isPrimary: true }] });
    window.render({
      slots: {
        bell: ({ unseenCount, isOpen }) => `Notifications, ${unseenCount} new${isOpen ? "" : "!"}`,
        header: ({ unreadCount }) => `Head ${unreadCount}`,
        image: ({ title }) => `Image ${title}`,
        actions: ({ title }) => (title === "one" ? null : undefined),
        empty: (tab) => `Empty ${tab}`,
        loading: () => "Loads",
        error: ({ problem }) => `Error ${problem?.kind}`,
      },
    });
  });
  await page.getByText("Notifications, 2 new!").click();
  for (const text of ["Notifications, 2 new", "Head 2", "Image two", "Image one"]) await page.getByText(text).waitFor();
  await page.getByRole("dialog", { name: "Notifications" }).waitFor();
  expect(await link("Reply").count()).toBe(1);
  expect(await page.locator(".doorbell-image, .doorbell-head, .doorbell-badge").count()).toBe(0);
  await page.evaluate(() => window.scripted.list());
  await page.getByText("Empty all").waitFor();
  await page.evaluate(() => window.scripted.set({ isLoaded: false }));
  await page.getByText("Loads").waitFor();
  await page.evaluate(() =>
    window.scripted.set({ unseenCount: 2, status: "failed", error: { kind: "refused", message: "Refused." } }),
  );
  await page.getByRole("status").getByText("Error refused").waitFor();
  expect(await findings(page)).toEqual([]);
});

for (const where of [":root", "#place", ".doorbell"]) {
  test(`a variable that is set on ${where} wins`, async () => {
    await page.addStyleTag({ content: `${where} { --doorbell-surface: rgb(1, 2, 3); --doorbell-width: 300px }` });
    await open();
    const [colour, width] = await panel().evaluate((element) => {
      const style = getComputedStyle(element);
      return [style.backgroundColor, style.width];
    });
    expect([colour, width]).toEqual(["rgb(1, 2, 3)", "300px"]);
  });
}

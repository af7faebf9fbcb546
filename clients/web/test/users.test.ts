// What was one user's comes to no other, whoever switches and when.

import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import type { Snapshot } from "../src/index.js";
import { newBrowser, open, pass, service, Tab, titles } from "./page.js";
import { token } from "./tabs.js";

const LATER = 3_600_000;

/** All that is kept. */
function kept({ shelf }: ReturnType<typeof newBrowser>): string {
  return Array.from({ length: shelf.length }, (_, at) => shelf.getItem(shelf.key(at) ?? "")).join("\n");
}

test("a page that comes once another user is there is shown and kept for nobody", async () => {
  const browser = newBrowser();
  new Tab().enter(browser);
  let user = "ann";
  for (let number = 1; number <= 50; number += 1) service.send(`for ann ${number}`);
  const inbox = open({ user, persist: true, getToken: () => token(user, Date.now() + LATER) });
  const view = inbox.view({ types: ["test"] });
  await pass(500);
  expect(titles(inbox)).toHaveLength(20);
  expect(kept(browser)).toContain("for ann");
  let answer = () => undefined as void;
  service.late = new Promise((done) => (answer = done));
  const pages = [inbox.loadMore(), view.loadMore()];
  await pass(100);
  expect(inbox.getSnapshot().isLoadingMore).toBe(true);
  expect(view.getSnapshot().isLoadingMore).toBe(true);
  user = "bob";
  service.late = undefined;
  service.rows = [];
  for (let number = 1; number <= 50; number += 1) service.send(`for bob ${number}`);
  inbox.start({ user });
  await pass(1000);
  expect(inbox.getSnapshot()).toMatchObject({ user, status: "live", hasMore: true, isLoadingMore: false });
  expect(view.getSnapshot()).toMatchObject({ hasMore: true, isLoadingMore: false });
  const others: string[] = [];
  inbox.subscribe(() => others.push(...titles(inbox)));
  answer();
  await Promise.allSettled(pages);
  await pass(1000);
  expect(others.filter((title) => !title.startsWith("for bob"))).toEqual([]);
  expect(kept(browser)).toContain("for bob");
  expect(kept(browser)).not.toContain("for ann");
  await Promise.all([inbox.loadMore(), view.loadMore()]);
  expect(titles(inbox)).toHaveLength(40);
  expect(view.getSnapshot().notifications).toHaveLength(40);
});

test("who hears of a notification may switch to another user, and nothing of it goes on", async () => {
  const browser = newBrowser();
  new Tab().enter(browser);
  let user = "ann";
  const inbox = open({ user, persist: true, getToken: () => token(user, Date.now() + LATER) });
  await pass(500);
  inbox.onNotification(() => {
    if (user === "bob") return;
    user = "bob";
    service.rows = [];
    inbox.start({ user });
  });
  const announced: string[] = [];
  inbox.onNotification((rows) => announced.push(...rows.map(({ title }) => title)));
  service.send("for ann");
  await pass(1000);
  expect(inbox.getSnapshot()).toMatchObject({ user: "bob", status: "live", notifications: [] });
  expect(announced).toEqual([]);
  expect(kept(browser)).not.toContain("for ann");
});

test("what is told after somebody switched is not told of the former user", async () => {
  let user = "ann";
  const inbox = open({ user, getToken: () => token(user, Date.now() + LATER) });
  await pass(500);
  const view = inbox.view({ types: ["test"] });
  await pass(500);
  service.failure = new ConnectError("away", Code.Unavailable);
  const switches = ({ notifications }: Pick<Snapshot, "notifications">) => {
    if (user === "bob" || notifications.length === 0) return;
    user = "bob";
    inbox.start({ user });
  };
  const heard: (string | undefined)[] = [];
  inbox.subscribe(switches);
  inbox.subscribe((snapshot) => user === "bob" && heard.push(snapshot.user));
  service.send("for ann");
  await pass(1000);
  expect(new Set(heard)).toEqual(new Set(["bob"]));
  expect(view.getSnapshot().notifications).toEqual([]);
});

test("a token that somebody switches at is not used for who comes then", async () => {
  let user = "ann";
  let come = (_: string) => undefined as void;
  // Of bob's there is none yet.
  const anns = new Promise<string>((done) => (come = done));
  const getToken = () => (user === "ann" ? anns : new Promise<string>(() => undefined));
  const inbox = open({ user, getToken });
  await pass(100);
  const known = inbox.getSnapshot();
  inbox.subscribe((snapshot) => {
    if (user === "bob" || snapshot === known) return;
    user = "bob";
    inbox.start({ user });
  });
  come(token("ann", Date.now() + LATER));
  await pass(500);
  expect(inbox.getSnapshot().user).toBe("bob");
  void inbox.preferences().catch(() => undefined);
  await pass(500);
  expect(service.calls).toEqual([]);
});

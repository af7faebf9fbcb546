import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { expect, test, vi } from "vitest";
import type { InboxClient, Snapshot } from "../src/index.js";
import { Inbox } from "../src/react/index.js";

/** What a page on a server has. */
function made(): InboxClient {
  const snapshot: Snapshot = {
    user: "ann",
    notifications: [],
    unreadCount: 7,
    unseenCount: 7,
    seenThrough: 0,
    revision: 7,
    status: "live",
    error: undefined,
    isLoaded: true,
    hasMore: false,
    isLoadingMore: false,
    pendingMarks: 0,
  };
  return {
    start: vi.fn(),
    stop: vi.fn(),
    subscribe: vi.fn(() => () => undefined),
    getSnapshot: () => snapshot,
    markRead: vi.fn(async () => undefined),
    markUnread: vi.fn(async () => undefined),
    archive: vi.fn(async () => undefined),
    unarchive: vi.fn(async () => undefined),
    remove: vi.fn(async () => undefined),
    markAllRead: vi.fn(async () => undefined),
    archiveAll: vi.fn(async () => undefined),
    markSeen: vi.fn(async () => undefined),
    loadMore: vi.fn(async () => undefined),
    view: vi.fn(),
    countTypes: vi.fn(),
    preferences: vi.fn(async () => []),
    updatePreferences: vi.fn(async () => []),
    retry: vi.fn(),
    onNotification: vi.fn(() => () => undefined),
  };
}

test("rendered on a server it shows nothing of anybody's, and begins nothing", () => {
  const inbox = made();
  const html = renderToString(createElement(Inbox, { inbox, theme: "dark" }));
  expect(html).toContain('aria-label="Notifications"');
  expect(html).toContain('data-theme="dark"');
  expect(html).not.toContain("doorbell-badge");
  expect(inbox.start).not.toHaveBeenCalled();
});

test("a list that is open is rendered on a server too", () => {
  const inbox = made();
  const html = renderToString(createElement(Inbox, { inbox, open: true, tabs: true, preferences: true, id: "inbox" }));
  expect(html).toContain('id="inbox" class="doorbell ');
  expect(html).toContain('role="dialog"');
  expect(html).toContain('role="tablist"');
  expect(inbox.start).not.toHaveBeenCalled();
});

// What the pages of all kinds have in common: each shows a bell, and how many are unread.

import type { InboxOptions, Notification } from "@doorbell/web";

const { token = "", ...given } = window.options;

/** What each makes its inbox of. */
export const options: InboxOptions = { ...given, getToken: () => token };

window.announced = [];
window.chosen = [];

/** Something rang. */
export const announced = (notifications: readonly Notification[]): void => {
  window.announced.push(...notifications.map(({ title }) => title));
};

/** One was chosen: the page goes nowhere. */
export const chosen = ({ title }: Notification, event: { preventDefault(): void }): void => {
  window.chosen.push(title);
  event.preventDefault();
};

/** Types with names, as a page gives them. */
export const preferences = { test: "Tests" };

declare global {
  interface Window {
    chosen: string[];
    /** Takes the bell out of the page. */
    release: () => void;
  }
}

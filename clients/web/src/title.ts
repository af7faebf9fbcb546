// How many are new, in the title of the page: what a tab in the background shows.

import type { InboxClient } from "./client.js";

/** What a title badge may be given. */
export interface TitleBadgeOptions {
  /** The title to show, of the page's own and how many are new: "(3) Title". */
  readonly format?: ((title: string, unseen: number) => string) | undefined;
}

/** Ends the badge that is there: of two each would take the other's title for the page's. */
let endFormer: (() => void) | undefined;

/** Shows in the title of the page how many are new, whatever the page makes of its title
 * meanwhile. Answers what ends that, and gives the page its own title back. A page has one:
 * the next takes the place of the last. */
export function titleBadge(
  inbox: Pick<InboxClient, "subscribe">,
  { format = badged }: TitleBadgeOptions = {},
): () => void {
  const { document } = globalThis as Partial<typeof globalThis>;
  if (!document) return () => undefined;
  endFormer?.();
  let own = document.title;
  let shown = own;
  let unseen: number | undefined;
  const show = () => {
    // It is another one than what was put there: the page's.
    if (document.title !== shown) own = document.title;
    shown = format(own, unseen ?? 0);
    if (document.title !== shown) document.title = shown;
    // As the browser has it, which may leave out spaces.
    shown = document.title;
  };
  const observer = new MutationObserver(show);
  // A page may replace the element.
  observer.observe(document.head, { childList: true, subtree: true, characterData: true });
  const forget = inbox.subscribe(({ unseenCount }) => {
    if (unseenCount === unseen) return;
    unseen = unseenCount;
    show();
  });
  const end = () => {
    if (endFormer !== end) return;
    endFormer = undefined;
    forget();
    observer.disconnect();
    if (document.title === shown) document.title = own;
  };
  endFormer = end;
  return end;
}

/** A count as a badge shows it. */
export function badge(count: number): string {
  return count > 99 ? "99+" : String(count);
}

function badged(title: string, unseen: number): string {
  return unseen === 0 ? title : `(${badge(unseen)}) ${title}`;
}

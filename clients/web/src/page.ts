// What happens to the page: it is shown and hidden, loses its network, and is frozen.

/** What is done then. */
export interface Happening {
  /** The page was shown or hidden. */
  shown(): void;
  network(isOnline: boolean): void;
  /** The page may be gone for long, and holds nothing meanwhile. */
  rest(): void;
  resume(): void;
}

/** Tells of it until `signal`. */
export function watchPage(signal: AbortSignal, { shown, network, rest, resume }: Happening): void {
  // An app on a phone has a `window`, and nothing happens there.
  const listen = (target: Partial<EventTarget> | undefined, event: string, act: () => void) =>
    target?.addEventListener?.(event, act, { signal });
  const { document, window } = globalThis as Partial<typeof globalThis>;
  listen(document, "visibilitychange", shown);
  listen(window, "online", () => network(true));
  listen(window, "offline", () => network(false));
  // A page that may come back from the browser's cache.
  listen(window, "pagehide", rest);
  listen(window, "pageshow", resume);
  // One that the browser freezes in the background.
  listen(document, "freeze", rest);
  listen(document, "resume", resume);
}

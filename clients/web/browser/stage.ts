// What a file of tests is played on.

import type { Browser } from "playwright-core";
import { afterAll, beforeAll } from "vitest";
import { openBrowser, Pages } from "./service.js";

/** A browser, and the pages of these names to open in it, for all tests of the file that
 * asks. */
export function setUp(...names: string[]): { readonly browser: Browser; readonly pages: Pages } {
  const stage = {} as { browser: Browser; pages: Pages };
  beforeAll(async () => {
    stage.pages = await Pages.start(...(names.length > 0 ? names : ["index", "scripted"]));
    stage.browser = await openBrowser();
  });
  afterAll(async () => {
    await stage.browser?.close();
    stage.pages?.stop();
  });
  return stage;
}

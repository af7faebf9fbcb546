import { expect, test } from "vitest";
import { safeLink } from "../src/link.js";

test("only http, https and paths of the page's own origin are followed", () => {
  const followed = ["https://example.com/a", "HTTP://example.com", "/", "/plans/7?a=b#c", "/a//b", "/a\\b"];
  for (const url of followed) expect(safeLink(url), url).toBe(url);
  const refused = [
    "/\\evil.example",
    "//evil.example",
    "/\t/evil.example",
    "/\n\\evil.example",
    "\\\\evil.example",
    "javascript:alert(1)",
    " javascript:alert(1)",
    "data:text/html,x",
    "mailto:a@example.com",
    "plans/7",
    "//",
    "",
  ];
  for (const url of refused) expect(safeLink(url), JSON.stringify(url)).toBeUndefined();
  expect(safeLink(undefined)).toBeUndefined();
});

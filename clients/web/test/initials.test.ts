import { expect, test } from "vitest";
import { initialsOf } from "../src/react/initials.js";

test("they are the first letters of the first two words, of any script", () => {
  const cases = {
    "Bob commented on a plan": "BC",
    Report: "R",
    "“Quoted” (v2)": "QV",
    "3 invoices are due": "3I",
    "דנה הגיבה": "דה",
    "e\u0301t\u00e9 \u00e0 Paris": "E\u0301\u00c0",
    "— …": "",
    "": "",
  };
  for (const [title, initials] of Object.entries(cases)) expect(initialsOf(title), title).toBe(initials);
});

import { expect, test } from "vitest";
import { NONE, reduce, type Happening, type Shown } from "../src/react/shown.js";

const rang = (...ids: string[]): Happening => ({ kind: "rang", ids, most: 3 });
const gone = (...ids: string[]): Happening => ({ kind: "gone", ids });
const held = (isHovered: boolean): Happening => ({ kind: "held", by: { isHovered } });
const after = (...happenings: Happening[]): Shown => happenings.reduce(reduce, NONE);

test("the newest are shown, each once", () => {
  expect(after(rang("1"), rang("3", "2")).ids).toEqual(["3", "2", "1"]);
  expect(after(rang("3", "2", "1"), rang("4")).ids).toEqual(["4", "3", "2"]);
  // One that was corrected rings again.
  expect(after(rang("2", "1"), rang("1")).ids).toEqual(["1", "2"]);
});

test("while they are held nothing comes, and then the newest do", () => {
  const holding = after(rang("1"), held(true), rang("2"), rang("4", "3"), rang("5"));
  expect(holding.ids).toEqual(["1"]);
  expect(reduce(holding, held(false))).toEqual({ ...NONE, most: 3, ids: ["5", "4", "3"] });
  expect(after(rang("1"), held(true), rang("2"), held(false)).ids).toEqual(["2", "1"]);
  // The focus holds them, too.
  const focused = reduce(holding, { kind: "held", by: { isFocused: true } });
  expect(reduce(focused, held(false)).ids).toEqual(["1"]);
});

test("what is gone is under no pointer", () => {
  const holding = after(rang("2", "1"), held(true), rang("3"));
  expect(reduce(holding, gone("2")).ids).toEqual(["1"]);
  expect(reduce(holding, gone("1", "2"))).toEqual({ ...NONE, most: 3, ids: ["3"] });
});

import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test, vi } from "vitest";
import { Switches, switchesOf } from "../src/react/switches.js";
import { open, pass, service } from "./page.js";

const away = () => new ConnectError("away", Code.Unavailable);

/** Of an inbox that is live, and has answered. */
async function loaded(): Promise<Switches> {
  const inbox = open();
  await pass(100);
  const switches = new Switches(inbox);
  await switches.load();
  return switches;
}

/** What is on, and what is off: `+a -b`. */
function shown({ standing }: Switches): string {
  const signs = standing().preferences?.map(({ type, on }) => (on ? "+" : "-") + type);
  return signs?.join(" ") ?? "nothing";
}

const saves = () => service.calls.filter((call) => call === "updatePreferences").length;

test("those that are named come first, by their names, and what nobody spoke of is on", () => {
  const told = { required: false, chosen: true };
  const preferences = [
    { ...told, type: "a", on: false },
    { ...told, type: "b", on: true, required: true },
  ];
  expect(switchesOf(preferences, { c: "Comments", b: "Security", constructor: "Builders" })).toEqual([
    { type: "c", name: "Comments", isOn: true, isRequired: false },
    { type: "b", name: "Security", isOn: true, isRequired: true },
    { type: "constructor", name: "Builders", isOn: true, isRequired: false },
    { type: "a", name: "a", isOn: false, isRequired: false },
  ]);
  expect(switchesOf([{ ...told, type: "toString", on: true }], {})[0]?.name).toBe("toString");
  expect(switchesOf([], {})).toEqual([]);
});

test("what cannot be loaded is said, and is there once it can", async () => {
  const inbox = open();
  await pass(100);
  const switches = new Switches(inbox);
  expect(switches.standing()).toMatchObject({ preferences: undefined, isFailed: false });
  service.failure = away();
  await switches.load();
  expect(switches.standing()).toMatchObject({ preferences: undefined, isFailed: true });
  service.failure = undefined;
  service.chosen.set("a", false);
  const loading = switches.load();
  expect(switches.standing().isFailed).toBe(false);
  await loading;
  expect(shown(switches)).toBe("-a");
});

test("what is pressed shows at once, and stays", async () => {
  service.chosen.set("a", true);
  const switches = await loaded();
  const heard = vi.fn();
  switches.subscribe(heard);
  switches.press("a", false);
  switches.press("b", false);
  expect(shown(switches)).toBe("-a -b");
  expect(heard).toHaveBeenCalledTimes(2);
  expect(service.chosen.get("a")).toBe(true);
  await pass(100);
  expect(shown(switches)).toBe("-a -b");
  expect([...service.chosen]).toEqual([["a", false], ["b", false]]);
  // What the service said since of others comes with its answer.
  service.typeDefaults.set("c", { on: false, required: false });
  switches.press("a", true);
  await pass(100);
  expect(shown(switches)).toBe("+a -b -c");
});

test("what is not taken is as it was, and is said until something is pressed again", async () => {
  service.typeDefaults.set("a", { on: true, required: false });
  const switches = await loaded();
  service.failure = away();
  switches.press("a", false);
  expect(shown(switches)).toBe("-a");
  await pass(100);
  expect(shown(switches)).toBe("+a");
  expect(switches.standing().unsaved).toBe("a");
  service.failure = undefined;
  switches.press("a", false);
  expect(switches.standing().unsaved).toBeUndefined();
  await pass(100);
  expect(shown(switches)).toBe("-a");
  // What everybody has meanwhile the service does not turn off.
  service.typeDefaults.set("b", { on: true, required: true });
  switches.press("b", false);
  await pass(100);
  expect(switches.standing().unsaved).toBe("b");
  expect(shown(switches)).toBe("-a");
});

test("of one that is pressed again and again the last counts, one call after the other", async () => {
  const switches = await loaded();
  for (const on of [false, true, false, true]) switches.press("a", on);
  switches.press("b", false);
  expect(shown(switches)).toBe("+a -b");
  await pass(100);
  expect(shown(switches)).toBe("+a -b");
  expect(service.chosen.get("a")).toBe(true);
  expect(saves()).toBe(2);
  // The second is not taken: it is as the first has left it.
  switches.press("a", false);
  while (saves() === 2) await Promise.resolve();
  service.failure = away();
  switches.press("a", true);
  await pass(100);
  expect(switches.standing().unsaved).toBe("a");
  expect(shown(switches)).toBe("-a -b");
  expect(service.chosen.get("a")).toBe(false);
  // The first is not, and what was pressed since is: there is nothing to say.
  switches.press("a", true);
  while (saves() === 4) await Promise.resolve();
  switches.press("a", false);
  service.failure = undefined;
  await pass(100);
  expect(switches.standing().unsaved).toBeUndefined();
  expect(shown(switches)).toBe("-a -b");
});

import { expect, test } from "vitest";
import { spotOf, type Edges, type Placement } from "../src/react/place.js";

const WINDOW = { width: 1000, height: 800 };
const WIDTH = 380;

/** A bell of 40 pixels. */
const bell = (left: number, top: number): Edges => ({ left, top, right: left + 40, bottom: top + 40 });
const spot = (at: Edges, placement: Placement, isRtl = false) => spotOf(at, WIDTH, WINDOW, isRtl, placement);

test("it stands on the wished side, with the wished edge at the bell's", () => {
  const at = bell(500, 380);
  expect(spot(at, "below-start")).toEqual({ left: 500, top: 428, room: 364 });
  expect(spot(at, "below-end")).toEqual({ left: 160, top: 428, room: 364 });
  expect(spot(at, "above-start")).toEqual({ left: 500, bottom: 428, room: 364 });
  expect(spot(at, "below-start", true).left).toBe(160);
  expect(spot(at, "below-end", true).left).toBe(500);
});

test("without room there it goes to the other side, and is moved into the window", () => {
  expect(spot(bell(500, 700), "below-end")).toEqual({ left: 160, bottom: 108, room: 684 });
  expect(spot(bell(500, 20), "above-end")).toEqual({ left: 160, top: 68, room: 724 });
  expect(spot(bell(0, 20), "below-end").left).toBe(8);
  expect(spot(bell(960, 20), "below-start").left).toBe(612);
});

test("beside the bell it stands before or after it, downwards above and upwards below", () => {
  expect(spot(bell(10, 20), "after")).toEqual({ left: 58, top: 20, room: 772 });
  expect(spot(bell(10, 750), "after")).toEqual({ left: 58, bottom: 10, room: 782 });
  expect(spot(bell(900, 20), "before")).toEqual({ left: 512, top: 20, room: 772 });
  expect(spot(bell(900, 20), "after", true)).toEqual({ left: 512, top: 20, room: 772 });
  // No room there.
  expect(spot(bell(900, 20), "after").left).toBe(512);
  expect(spot(bell(10, 20), "before").left).toBe(58);
});

test("where neither side has room it stands below", () => {
  const narrow = { width: 400, height: 800 };
  expect(spotOf(bell(10, 20), WIDTH, narrow, false, "after")).toEqual({ left: 10, top: 68, room: 724 });
});

test("in a low window it may cover the bell", () => {
  const low = { width: 1000, height: 200 };
  expect(spotOf(bell(500, 80), WIDTH, low, false, "below-end")).toEqual({ left: 160, top: 8, room: 184 });
});

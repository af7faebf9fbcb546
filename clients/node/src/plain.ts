// Messages of the proto as plain objects, and back.
//
// A time is a `Date`, a length of time milliseconds, `data` the JSON that it is, a value of
// an enum its name in lower case (`"waiting"`), a number of 64 bits a number: revisions and
// positions count changes, and a number holds 285 years of one a microsecond. It goes by
// what the proto says of itself, so a new field needs nothing here.

import {
  create,
  ScalarType,
  type DescField,
  type DescMessage,
  type JsonObject,
  type Message,
} from "@bufbuild/protobuf";
import {
  durationFromMs,
  durationMs,
  timestampDate,
  timestampFromDate,
  type Duration,
  type FieldMask,
  type Timestamp,
} from "@bufbuild/protobuf/wkt";
import { invalid } from "./error.js";
import type {
  ErrorReason,
  FollowUpUnless,
  RemovalCause,
  SendState,
  Suppressed,
  View,
} from "./gen/doorbell/v1/notifications_pb.js";
import type { TimelineEvent } from "./gen/doorbell/v1/operators_pb.js";
import { shortName, snakeCase, type Short } from "./names.js";
import { milliseconds, type Span } from "./span.js";

type NamesOf<Enum> = Exclude<keyof Enum, "UNSPECIFIED"> & string;

// Which enum it is can be seen, and its names only where it is named: a new one has a line.
type EnumName<T> = T extends ErrorReason
  ? NamesOf<typeof ErrorReason>
  : T extends FollowUpUnless
    ? Lowercase<NamesOf<typeof FollowUpUnless>>
    : T extends RemovalCause
      ? Lowercase<NamesOf<typeof RemovalCause>>
      : T extends SendState
        ? Lowercase<NamesOf<typeof SendState>>
        : T extends Suppressed
          ? Lowercase<NamesOf<typeof Suppressed>>
          : T extends TimelineEvent
            ? Lowercase<NamesOf<typeof TimelineEvent>>
            : T extends View
              ? Lowercase<NamesOf<typeof View>>
              : never;

// A number is assignable to every enum, but its text is not one of the texts of an enum.
type NumberOrName<T extends number> = `${number}` extends `${T}` ? number : EnumName<T>;

// The fields of a message that are called here as they are there. They are mapped by their own
// names, so that what the proto says of them comes along.
type FieldsOf<T> = Exclude<keyof T, "$typeName" | "$unknown" | keyof Short>;

/** What a call takes: a message as a plain object. */
export type Given<T> = T extends bigint
  ? number
  : T extends number
    ? NumberOrName<T>
    : T extends Timestamp
      ? Date
      : T extends Duration
        ? Span
        : T extends FieldMask
          ? readonly string[]
          : T extends readonly (infer Item)[]
            ? readonly Given<Item>[]
            : T extends Message
              ? GivenFields<T, FieldsOf<T>> & GivenShort<T>
              : T extends JsonObject
                ? object
                : T;
type GivenFields<T, Field extends keyof T> = { readonly [F in Field]?: Given<T[F]> | undefined };
type GivenShort<T> = (T extends { organizationId: string } ? OrgId : unknown) &
  (T extends { recipientUserId: string } ? UserId : unknown) &
  (T extends { recipientUserIds: string[] } ? UserIds : unknown);

interface OrgId {
  /** The tenant. */
  readonly orgId?: string | undefined;
}
interface UserId {
  /** The person. */
  readonly userId?: string | undefined;
}
interface UserIds {
  /** The people: 1 to 1,000, none twice. */
  readonly userIds?: readonly string[] | undefined;
}

/** What a call answers: a message as a plain object. */
export type Answer<T> = T extends bigint
  ? number
  : T extends number
    ? NumberOrName<T> | (`${number}` extends `${T}` ? never : undefined)
    : T extends Timestamp
      ? Date
      : T extends Duration
        ? number
        : T extends readonly (infer Item)[]
          ? Answer<Item>[]
          : T extends Message
            ? AnswerFields<T, FieldsOf<T>> & (T extends { recipientUserId: string } ? Required<UserId> : unknown)
            : T;
type AnswerFields<T, Field extends keyof T> = { [F in Field]: Answer<T[F]> };

/** The plain object of a message. What is absent there is absent here. */
export function plainOf(schema: DescMessage, message: Message): Record<string, unknown> {
  const plain: Record<string, unknown> = {};
  for (const field of schema.fields) {
    const value = (message as unknown as Record<string, unknown>)[field.localName];
    if (value === undefined) continue;
    const one = (item: unknown) => plainValue(field, item);
    const is = field.fieldKind === "list" ? (value as unknown[]).map(one) : one(value);
    if (is !== undefined) plain[shortName(field.localName)] = is;
  }
  return plain;
}

function plainValue(field: DescField, value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (field.enum) {
    const name = field.enum.value[value as number]?.localName ?? String(value);
    if (name === "UNSPECIFIED") return undefined;
    return field.enum.name === "ErrorReason" ? name : name.toLowerCase();
  }
  switch (field.message?.typeName) {
    case undefined:
    case "google.protobuf.Struct":
      return value;
    case "google.protobuf.Timestamp":
      return timestampDate(value as Timestamp);
    case "google.protobuf.Duration":
      return durationMs(value as Duration);
    default:
      return plainOf(field.message as DescMessage, value as Message);
  }
}

/** The message of a plain object; `at` is where the object is, empty for the whole. */
export function messageOf(schema: DescMessage, plain: object, at = ""): Message {
  const init: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(plain)) {
    const path = at === "" ? name : `${at}.${name}`;
    const field = schema.fields.find(({ localName }) => shortName(localName) === name);
    if (!field) {
      const names = schema.fields.map(({ localName }) => shortName(localName)).join(", ");
      throw invalid(path, `there is no such field; there are: ${names || "none"}`);
    }
    if (value === undefined || value === null) continue;
    const there = field.localName;
    if (field.fieldKind !== "list") init[there] = valueOf(field, value, path);
    else if (!Array.isArray(value)) throw invalid(path, "must be an array");
    else init[there] = value.map((item, index) => valueOf(field, item, `${path}[${index}]`));
  }
  return create(schema, init);
}

function valueOf(field: DescField, value: unknown, path: string): unknown {
  if (field.enum) {
    const wanted = String(value).toUpperCase();
    const names = field.enum.values.map(({ localName }) => localName);
    const found = field.enum.values.find(({ localName }) => localName === wanted);
    if (found && wanted !== "UNSPECIFIED") return found.number;
    const known = names.slice(1).map((name) => `"${name.toLowerCase()}"`);
    throw invalid(path, `must be one of ${known.join(", ")}, and is ${JSON.stringify(value)}`);
  }
  switch (field.message?.typeName) {
    case undefined:
      return scalarOf(field, value, path);
    case "google.protobuf.Struct":
      return jsonOf(value, path);
    case "google.protobuf.Timestamp":
      if (value instanceof Date && !Number.isNaN(value.getTime())) return timestampFromDate(value);
      throw invalid(path, "must be a Date");
    case "google.protobuf.Duration":
      return durationFromMs(Math.round(milliseconds(path, value as Span)));
    case "google.protobuf.FieldMask":
      if (!Array.isArray(value)) throw invalid(path, "must be an array of names of fields");
      return { paths: value.map((name) => snakeCase(String(name))) };
    default:
      if (typeof value !== "object") throw invalid(path, "must be an object");
      return messageOf(field.message as DescMessage, value as object, path);
  }
}

function scalarOf({ scalar }: DescField, value: unknown, path: string): unknown {
  const type = scalar === ScalarType.STRING ? "string" : scalar === ScalarType.BOOL ? "boolean" : "number";
  if (typeof value !== type) throw invalid(path, `must be a ${type}, and is a ${typeof value}`);
  if (type !== "number") return value;
  if (!Number.isSafeInteger(value)) throw invalid(path, "must be a whole number");
  const isLong = scalar === ScalarType.UINT64 || scalar === ScalarType.INT64;
  return isLong ? BigInt(value as number) : value;
}

/** `data` as JSON has it: what JSON would lose without a word is refused. */
function jsonOf(data: unknown, path: string): JsonObject {
  const check = (name: string, value: unknown): unknown => {
    const isLost =
      (typeof value === "number" && !Number.isFinite(value)) ||
      ["bigint", "function", "symbol"].includes(typeof value) ||
      value instanceof Map ||
      value instanceof Set;
    if (isLost) throw invalid(path, `has at "${name}" what JSON has not: ${String(value)}`);
    return value;
  };
  const text = JSON.stringify(data, check);
  if (!text?.startsWith("{")) throw invalid(path, "must be an object");
  return JSON.parse(text) as JsonObject;
}

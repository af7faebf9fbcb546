// The inbox as it is kept in the browser: rows and position in one record, so that
// they are of one moment or not there at all, and only for the user who is there.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { State } from "./fold.js";
import { GetRecentResponseSchema } from "./gen/doorbell/v1/notifications_pb.js";

const VERSION = 1;
/** More rows are not kept: the rest is loaded when somebody scrolls there. */
const MOST_ROWS = 100;

/** A state as text: for the record, and for what tabs tell each other. Of a longer
 * list the newest rows are taken. */
export function encode(state: State, mostRows = Number.POSITIVE_INFINITY): string {
  const rows = state.rows.slice(0, mostRows);
  const isWhole = rows.length === state.rows.length;
  // The message that such rows come in anyway: nothing else has to be invented.
  const page = create(GetRecentResponseSchema, {
    notifications: rows,
    revision: state.revision,
    unreadCount: state.unreadCount,
    epoch: state.epoch,
    nextPageToken: isWhole ? state.nextPageToken : "",
  });
  const bytes = toBinary(GetRecentResponseSchema, page);
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  const oldest = isWhole ? state.oldest : (rows.at(-1)?.sequence ?? state.oldest);
  return JSON.stringify([VERSION, String(state.position), String(oldest), btoa(binary)]);
}

/** The state of a text that `encode` made; nothing where it was not. */
export function decode(text: string): State | undefined {
  try {
    const [version, position, oldest, binary] = JSON.parse(text) as [number, string, string, string];
    if (version !== VERSION) return undefined;
    const bytes = Uint8Array.from(atob(binary), (char) => char.charCodeAt(0));
    const page = fromBinary(GetRecentResponseSchema, bytes);
    return {
      epoch: page.epoch,
      position: BigInt(position),
      revision: page.revision,
      unreadCount: page.unreadCount,
      rows: page.notifications,
      oldest: BigInt(oldest),
      nextPageToken: page.nextPageToken,
    };
  } catch {
    return undefined;
  }
}

/** Where a user's inbox is kept. Without storage it keeps nothing. */
export class Kept {
  readonly #storage: Storage | undefined;
  readonly #prefix: string;
  readonly #key: string;

  constructor(storage: Storage | undefined, service: string, identity: string) {
    this.#storage = storage;
    this.#prefix = `doorbell:${service}:`;
    this.#key = this.#prefix + identity;
  }

  /** What was kept. Records of other users of this service are removed. */
  take(): State | undefined {
    try {
      const storage = this.#storage;
      if (!storage) return undefined;
      const keys = Array.from({ length: storage.length }, (_, at) => storage.key(at) ?? "");
      for (const key of keys) {
        if (key.startsWith(this.#prefix) && key !== this.#key) storage.removeItem(key);
      }
      const text = storage.getItem(this.#key);
      return text === null ? undefined : decode(text);
    } catch {
      return undefined;
    }
  }

  /** Keeps a state, or nothing in the place of what there was. */
  put(state: State | undefined): void {
    try {
      if (state) {
        this.#storage?.setItem(this.#key, encode(state, MOST_ROWS));
        return;
      }
    } catch {
      // There is no room, or storing is forbidden: then nothing old may stay.
    }
    try {
      this.#storage?.removeItem(this.#key);
    } catch {
      // Nothing can be done, and nothing was kept.
    }
  }
}

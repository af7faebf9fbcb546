// What the form says, as a call has it. A field that is empty is absent.

import type { JsonObject } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { actionsOf } from "../shared/form.js";

/** A form's fields, by their names. */
export class Fields {
  readonly #data: FormData;

  constructor(form: HTMLFormElement) {
    this.#data = new FormData(form);
  }

  /** What is written there, empty or not. */
  text(name: string): string {
    return String(this.#data.get(name) ?? "");
  }

  /** Whether it is ticked. */
  is(name: string): boolean {
    return this.#data.has(name);
  }

  #optional<Key extends string>(key: Key): { [K in Key]?: string } {
    const value = this.text(key);
    return value === "" ? {} : ({ [key]: value } as { [K in Key]: string });
  }

  /** What a notification says: all that can be corrected later. */
  content() {
    const data = this.text("data");
    return {
      type: this.text("type"),
      title: this.text("title"),
      ...this.#optional("body"),
      ...this.#optional("entityType"),
      ...this.#optional("entityId"),
      ...this.#optional("actionUrl"),
      ...this.#optional("imageUrl"),
      ...(data && { data: JSON.parse(data) as JsonObject }),
      actions: actionsOf(this.text("actions")),
    };
  }

  /** All of a send but whom it is for. */
  send() {
    const seconds = Number(this.text("expiresIn"));
    return {
      ...this.content(),
      ...(seconds > 0 && { expireTime: timestampFromMs(Date.now() + 1000 * seconds) }),
      ...this.#optional("collapseKey"),
      silent: this.is("silent"),
      idempotencyKey: this.text("idempotencyKey") || crypto.randomUUID(),
    };
  }

  /** Which notifications to take back: all about the thing, or with the key. */
  selection(by: string) {
    if (by === "collapseKey") return { collapseKey: this.text(by) };
    if (by === "idempotencyKey") return { idempotencyKey: this.text(by) };
    return { about: { entityType: this.text("entityType"), entityId: this.text("entityId") } };
  }
}

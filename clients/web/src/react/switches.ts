// The switches of the types that a person may have.
//
// Promises: a switch shows at once what was pressed, and what the service says again where
// that does not take it. One call is made after the other, in the order in which they were
// pressed; of a switch that was pressed again meanwhile only the last counts.

import type { InboxClient } from "../client.js";
import { Listeners } from "../listeners.js";
import type { Preference } from "../preferences.js";

/** Types, with the names by which the person knows them. */
export interface TypeNames {
  readonly [type: string]: string;
}

/** A type, and whether the person has it. */
export interface Switch {
  readonly type: string;
  readonly name: string;
  readonly isOn: boolean;
  /** Everybody has it. */
  readonly isRequired: boolean;
}

/** How the switches stand. */
export interface Standing {
  /** As the service says, and then as was pressed; nothing until it has answered. */
  readonly preferences: readonly Preference[] | undefined;
  /** The service did not answer what there is. */
  readonly isFailed: boolean;
  /** The type that was pressed last, where the service did not take that. */
  readonly unsaved: string | undefined;
}

/** All that are named, in that order, and then what else the service has. Of what nobody
 * said anything of everybody has. */
export function switchesOf(preferences: readonly Preference[], names: TypeNames): readonly Switch[] {
  const known = new Map(preferences.map((preference) => [preference.type, preference]));
  const named = new Map(Object.entries(names));
  return [...new Set([...named.keys(), ...known.keys()])].map((type) => {
    const { on = true, required = false } = known.get(type) ?? {};
    return { type, name: named.get(type) ?? type, isOn: on, isRequired: required };
  });
}

export class Switches {
  readonly #inbox: InboxClient;
  readonly #listeners = new Listeners<[]>();
  #known: readonly Preference[] | undefined;
  /** What the service has yet to take. */
  readonly #pressed = new Map<string, boolean>();
  /** The end of the last call. */
  #last = Promise.resolve();
  #standing: Standing = { preferences: undefined, isFailed: false, unsaved: undefined };

  constructor(inbox: InboxClient) {
    this.#inbox = inbox;
  }

  readonly subscribe = (listener: () => void): (() => void) => this.#listeners.add(listener);

  /** The same object until it changes. */
  readonly standing = (): Standing => this.#standing;

  /** Asks what there is. */
  readonly load = async (): Promise<void> => {
    this.#become({ isFailed: false });
    try {
      this.#known = await this.#inbox.preferences();
      this.#become({});
    } catch {
      this.#become({ isFailed: true });
    }
  };

  press(type: string, on: boolean): void {
    this.#pressed.set(type, on);
    this.#become({ unsaved: undefined });
    this.#last = this.#last.then(() => this.#save(type, on));
  }

  async #save(type: string, on: boolean): Promise<void> {
    const isLast = () => this.#pressed.get(type) === on;
    if (!isLast()) return;
    let unsaved: { readonly unsaved?: string } = {};
    try {
      this.#known = await this.#inbox.updatePreferences([{ type, on }]);
    } catch {
      if (isLast()) unsaved = { unsaved: type };
    }
    if (isLast()) this.#pressed.delete(type);
    this.#become(unsaved);
  }

  #become(part: Partial<Standing>): void {
    this.#standing = { ...this.#standing, ...part, preferences: this.#preferences() };
    this.#listeners.tell();
  }

  #preferences(): readonly Preference[] | undefined {
    if (!this.#known) return undefined;
    const known = new Map(this.#known.map((preference) => [preference.type, preference]));
    for (const [type, on] of this.#pressed) {
      known.set(type, { type, required: false, ...known.get(type), on, chosen: true });
    }
    return [...known.values()];
  }
}

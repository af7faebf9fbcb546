// What a person wants, as plain data.

/** A type of notifications, and whether the person has it. */
export interface Preference {
  /** As senders name it. */
  readonly type: string;
  /** Whether the person has it. */
  readonly on: boolean;
  /** Whether everybody has it: it cannot be turned off. */
  readonly required: boolean;
  /** Whether the person said so. */
  readonly chosen: boolean;
}

/** A type, and what the person says of it. */
export interface PreferenceChoice {
  /** As senders name it. */
  readonly type: string;
  /** Whether to have it; absent: what their organization says. */
  readonly on?: boolean | undefined;
}

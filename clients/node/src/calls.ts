// The calls, generated from the proto but for one line each: how it is repeated, and what it
// cannot do without.

import type { DescMethodUnary, MessageShape } from "@bufbuild/protobuf";
import { NotificationService } from "./gen/doorbell/v1/notifications_pb.js";
import { OperatorService } from "./gen/doorbell/v1/operators_pb.js";
import { PreferenceService } from "./gen/doorbell/v1/preferences_pb.js";
import { SendService } from "./gen/doorbell/v1/sends_pb.js";
import { TopicService } from "./gen/doorbell/v1/topics_pb.js";
import type { Pages } from "./pages.js";
import type { Answer, Given } from "./plain.js";
import type { Span } from "./span.js";

// By their names, so that what the proto says of them comes with the package. A stream is no
// call: it is for screens.
type Methods = Omit<typeof NotificationService.method, "subscribe"> &
  typeof SendService.method &
  typeof TopicService.method &
  typeof PreferenceService.method &
  typeof OperatorService.method;

/** The calls as the proto has them. */
const METHODS: Methods = {
  ...NotificationService.method,
  ...SendService.method,
  ...TopicService.method,
  ...PreferenceService.method,
  ...OperatorService.method,
};

/** The name of a call. */
export type CallName = keyof Methods;

/** How a call is repeated without doing it twice. */
interface Rule<Needed extends string> {
  /** By its `idempotencyKey`, which is made where none is given; else as it is, since what is
   * done already is not done again. */
  readonly isKeyed: boolean;
  /** The field with which it is not repeated. */
  readonly onceWith?: string;
  /** The fields that it must have; known to the compiler alone. */
  readonly needed?: Needed;
}
const keyed = <Needed extends string = never>(): Rule<NoInfer<Needed>> => ({ isKeyed: true });
const repeatable = <Needed extends string = never>(): Rule<NoInfer<Needed>> => ({ isKeyed: false });
const onceWith = <Needed extends string = never>(field: string): Rule<NoInfer<Needed>> => ({
  isKeyed: false,
  onceWith: field,
});

type Tenant = "orgId";
type Topic = Tenant | "topicId";
type Person = Tenant | "userId";

/** What there is to know of each call. One that is missing here does not compile. */
const ALL = {
  sendInApp: keyed<Person | "type" | "title">(),
  sendToMany: keyed<Tenant | "userIds" | "content">(),
  sendToTopic: keyed<Topic | "content">(),
  broadcast: keyed<"content">(),
  retractFromAll: keyed<Tenant | "about">(),
  // Between two attempts somebody else may have corrected it, and the second would ring again.
  updateInApp: onceWith<Person | "content">("ring"),
  retractInApp: repeatable<Person>(),
  retractBroadcast: repeatable<"sendId">(),
  getRetraction: repeatable<Tenant>(),
  getSend: repeatable(),
  listSends: repeatable(),
  cancelSend: repeatable<"sendId">(),
  listFollowUps: repeatable<Tenant>(),
  addTopicMembers: repeatable<Topic | "userIds">(),
  removeTopicMembers: repeatable<Topic | "userIds">(),
  listTopicMembers: repeatable<Topic>(),
  listTopicsOfUser: repeatable<Person>(),
  deleteTopic: repeatable<Topic>(),
  getTypeDefaults: repeatable<Tenant>(),
  updateTypeDefaults: repeatable<Tenant>(),
  // With the token of a user.
  getUnreadCount: repeatable(),
  getRecent: repeatable(),
  markSeen: repeatable<"throughSequence" | "epoch">(),
  markRead: repeatable(),
  markUnread: repeatable(),
  archive: repeatable(),
  unarchive: repeatable(),
  remove: repeatable(),
  getPreferences: repeatable(),
  updatePreferences: repeatable<"choices">(),
  // With the token of an operator.
  readInbox: repeatable<Person>(),
  getTimeline: repeatable<Person>(),
  eraseInbox: repeatable<Person>(),
  eraseOrganization: repeatable<Tenant>(),
  getNode: repeatable(),
} satisfies { [Name in CallName]: Rule<keyof Given<Input<Name>> & string> };

/** The same, without what is known of each alone. */
export const RULES: { readonly [Name in CallName]: Rule<string> } = ALL;

type Input<Name extends CallName> = MessageShape<Methods[Name]["input"]>;
type Output<Name extends CallName> = MessageShape<Methods[Name]["output"]>;
type Needed<Name extends CallName> = NonNullable<(typeof ALL)[Name]["needed"]>;

type WithNeeded<T, Name> = T & { readonly [F in keyof T & Name]-?: NonNullable<T[F]> };

/** What a call takes. */
export type RequestOf<Name extends CallName> = WithNeeded<Given<Input<Name>>, Needed<Name>>;

/** What a call answers. */
export type ResponseOf<Name extends CallName> = Answer<Output<Name>>;

type ItemOf<Page> = { [F in keyof Page]-?: Page[F] extends readonly (infer Item)[] ? Item : never }[keyof Page];

type ResultOf<Name extends CallName> =
  "pageToken" extends keyof Input<Name>
    ? Pages<ResponseOf<Name>, ItemOf<ResponseOf<Name>>>
    : Promise<ResponseOf<Name>>;

/** How one call is made. */
export interface CallOptions {
  /** How long it may take in all, retries among it; the client's where it is absent. */
  readonly timeout?: Span | undefined;
  /** How many times it is repeated at most; the client's where it is absent. */
  readonly retries?: number | undefined;
  /** Ends it; it rejects with the code `CANCELLED`. */
  readonly signal?: AbortSignal | undefined;
  /** In place of the client's token: a user's, for the calls of users. */
  readonly token?: string | undefined;
}

/** Every call of the proto, by its name. */
export type Calls = {
  [Name in keyof Methods]: [Needed<Name>] extends [never]
    ? (request?: RequestOf<Name>, options?: CallOptions) => ResultOf<Name>
    : (request: RequestOf<Name>, options?: CallOptions) => ResultOf<Name>;
};

/** The description of a call. */
export const methodOf = (name: CallName): DescMethodUnary => METHODS[name] as DescMethodUnary;

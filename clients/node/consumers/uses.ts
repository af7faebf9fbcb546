// What a backend does with the types of the package; compiled against the packed one.
import {
  createUserToken,
  Doorbell,
  DoorbellError,
  type ErrorCode,
  type FollowUp,
  type Notification,
  type RequestOf,
  type Send,
} from "@doorbell/node";

interface Comment {
  readonly id: string;
  readonly likes: number;
}

export async function uses(doorbell: Doorbell, comment: Comment): Promise<Notification | undefined> {
  const request: RequestOf<"sendInApp"> = {
    orgId: "acme",
    userId: "alice",
    type: "comment",
    title: "Bob commented",
    data: comment,
    expireTime: new Date(),
    followUp: { after: "10m", unless: "seen" },
  };
  const { notification, head, suppressed } = await doorbell.sendInApp(request, { timeout: "2s", retries: 3 });
  const when: Date | undefined = notification?.createdAt;
  const unread: number | undefined = head?.unreadCount;
  const revision: number | undefined = head?.revision;
  const why: "expired" | "muted" | undefined = suppressed;

  const sends: Send[] = [];
  for await (const send of doorbell.listSends({ orgId: "acme", state: "under_way" })) sends.push(send);
  const { nextPageToken } = await doorbell.listSends({ orgId: "acme" });
  const members: string[] = [];
  const topic = { orgId: "acme", topicId: "project-7" } as const;
  for await (const member of doorbell.listTopicMembers(topic)) members.push(member);

  for await (const followUp of doorbell.followUps({ orgId: "acme", after: "" })) {
    const { position, userId, unless }: FollowUp = followUp;
    const either: "seen" | "read" | undefined = unless;
    console.log(position, userId, either);
  }

  // @ts-expect-error: it is for somebody.
  await doorbell.sendInApp({ orgId: "acme", type: "comment", title: "Bob commented" });
  // @ts-expect-error: there is no such state.
  await doorbell.listSends({ state: "waited" });
  // @ts-expect-error: there is no such field.
  await doorbell.getSend({ orgId: "acme", id: "7" });
  console.log(when, unread, revision, why, nextPageToken, request.entityType, head?.unseenCount);
  console.log(await createUserToken({ orgId: "acme", userId: "alice" }));
  return notification;
}

export function isOver(error: unknown): error is DoorbellError {
  const codes: ErrorCode[] = ["NOT_FOUND", "FAILED_PRECONDITION"];
  return error instanceof DoorbellError && codes.includes(error.code) && error.violations.length === 0;
}

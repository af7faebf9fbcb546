// A route of a Next.js site that rings others.
import { Doorbell } from "@doorbell/node";
import { signedIn } from "../../../session.js";

const doorbell = new Doorbell(); // Of DOORBELL_URL and DOORBELL_TOKEN.

export async function POST(request: Request): Promise<Response> {
  const user = signedIn(request.headers.get("cookie"));
  if (!user) return new Response("Sign in first.\n", { status: 401 });
  const { id, postId, authorId } = (await request.json()) as Record<string, string>;
  await doorbell.sendInApp({
    orgId: user.orgId,
    userId: authorId ?? "",
    type: "comment",
    title: `${user.userId} commented on your post`,
    actionUrl: `/posts/${postId}#comment-${id}`,
    idempotencyKey: `comment-${id}`, // So a request that comes twice rings once.
  });
  return new Response(null, { status: 204 });
}

// A backend in Fastify: what the bell in its pages needs, and a route that rings others.
import { createUserToken, Doorbell } from "@doorbell/node";
import Fastify from "fastify";
import { signedIn } from "./session.js";

const doorbell = new Doorbell(); // Of DOORBELL_URL and DOORBELL_TOKEN.

export const app = Fastify();

app.get("/doorbell-token", async (request, reply) => {
  const user = signedIn(request.headers.cookie);
  if (!user) return reply.code(401).send("Sign in first.\n");
  return reply.header("cache-control", "no-store").type("text/plain").send(await createUserToken(user));
});

interface Comment {
  id: string;
  postId: string;
  authorId: string;
}

app.post<{ Body: Comment }>("/comments", async (request, reply) => {
  const user = signedIn(request.headers.cookie);
  if (!user) return reply.code(401).send("Sign in first.\n");
  const { id, postId, authorId } = request.body;
  await doorbell.sendInApp({
    orgId: user.orgId,
    userId: authorId,
    type: "comment",
    title: `${user.userId} commented on your post`,
    actionUrl: `/posts/${postId}#comment-${id}`,
    idempotencyKey: `comment-${id}`, // So a request that comes twice rings once.
  });
  return reply.code(204).send();
});

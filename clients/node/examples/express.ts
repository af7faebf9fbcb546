// A backend in Express: what the bell in its pages needs, and a route that rings others.
import { createUserToken, Doorbell } from "@doorbell/node";
import express from "express";
import { signedIn } from "./session.js";

const doorbell = new Doorbell(); // Of DOORBELL_URL and DOORBELL_TOKEN.

export const app = express();
app.use(express.json());

app.get("/doorbell-token", async (request, response) => {
  const user = signedIn(request.headers.cookie);
  if (!user) return void response.status(401).send("Sign in first.\n");
  response.set("cache-control", "no-store").type("text").send(await createUserToken(user));
});

app.post("/comments", async (request, response) => {
  const user = signedIn(request.headers.cookie);
  if (!user) return void response.status(401).send("Sign in first.\n");
  const { id, postId, authorId } = request.body;
  await doorbell.sendInApp({
    orgId: user.orgId,
    userId: authorId,
    type: "comment",
    title: `${user.userId} commented on your post`,
    actionUrl: `/posts/${postId}#comment-${id}`,
    idempotencyKey: `comment-${id}`, // So a request that comes twice rings once.
  });
  response.sendStatus(204);
});

// What the bell in the pages of a Next.js site asks for its token.
import { createUserToken } from "@doorbell/node";
import { signedIn } from "../../../session.js";

export async function GET(request: Request): Promise<Response> {
  const user = signedIn(request.headers.get("cookie"));
  if (!user) return new Response("Sign in first.\n", { status: 401 });
  return new Response(await createUserToken(user), { headers: { "cache-control": "no-store" } });
}

"""Doorbell in FastAPI: a token for who is signed in, and a route that sends.

python -m uvicorn fastapi_app:app
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Body, Depends, FastAPI, HTTPException
from fastapi.responses import PlainTextResponse

from doorbell_client import AsyncDoorbell, create_user_token

doorbell = AsyncDoorbell()  # DOORBELL_URL and DOORBELL_TOKEN say where, and as whom.


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
    async with doorbell:
        yield


app = FastAPI(lifespan=lifespan)


def signed_in() -> str:  # Yours: who it is, as your session says it.
    raise HTTPException(401, "Sign in first.")


User = Annotated[str, Depends(signed_in)]


@app.get("/doorbell-token")
def doorbell_token(user_id: User) -> PlainTextResponse:
    # Signed with DOORBELL_JWT_SECRET, which is the service's own.
    token = create_user_token(org_id="acme", user_id=user_id)
    return PlainTextResponse(token, headers={"cache-control": "no-store"})


@app.post("/posts/{post_id}/comments", status_code=204)
async def comment(
    post_id: int, id: Annotated[int, Body()], text: Annotated[str, Body()], user_id: User
) -> None:
    await doorbell.send_in_app(
        org_id="acme",
        user_id="alice",  # Yours: whose post it is.
        type="comment",
        title=f"{user_id} commented",
        body=text,
        action_url=f"/posts/{post_id}",
        data={"post": post_id},
        idempotency_key=f"comment-{id}",  # So a request that comes twice rings once.
    )

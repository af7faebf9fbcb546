"""Doorbell in Django: a token for who is signed in, and a view that sends.

The views and `urlpatterns` are what a project of yours takes; the rest makes it a program:

    python django_app.py runserver
"""

import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, HttpResponse
from django.urls import path

from doorbell_client import Doorbell, create_user_token

if not settings.configured:
    settings.configure(DEBUG=True, SECRET_KEY="an example", ROOT_URLCONF=__name__)

doorbell = Doorbell()  # DOORBELL_URL and DOORBELL_TOKEN say where, and as whom.


def signed_in(request: HttpRequest) -> str | None:  # Yours: request.user, say.
    return request.get_signed_cookie("user", None)


def doorbell_token(request: HttpRequest) -> HttpResponse:
    user_id = signed_in(request)
    if user_id is None:
        return HttpResponse("Sign in first.\n", status=401)
    # Signed with DOORBELL_JWT_SECRET, which is the service's own.
    token = create_user_token(org_id="acme", user_id=user_id)
    headers = {"cache-control": "no-store"}
    return HttpResponse(token, content_type="text/plain", headers=headers)


def comment(request: HttpRequest, post_id: int) -> HttpResponse:
    if request.method != "POST" or signed_in(request) is None:
        return HttpResponse(status=403)
    doorbell.send_in_app(
        org_id="acme",
        user_id="alice",  # Yours: whose post it is.
        type="comment",
        title=f"{signed_in(request)} commented",
        body=request.POST["text"],
        action_url=f"/posts/{post_id}",
        data={"post": post_id},
    )
    return HttpResponse(status=204)


urlpatterns = [
    path("doorbell-token", doorbell_token),
    path("posts/<int:post_id>/comments", comment),
]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)

"""Doorbell in Django: a page with a bell, a token for it, and a view that rings.

The views, the page and the routes are what a project of yours takes; the rest makes it a
program:

    python django_site.py runserver
"""

# views.py
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_POST

from doorbell_client import Doorbell, create_user_token

doorbell = Doorbell()  # DOORBELL_URL and DOORBELL_TOKEN say where, and as whom.


def signed_in(request: HttpRequest) -> str | None:
    """Yours: who is signed in, as your session says it; never as the request does."""
    return request.get_signed_cookie("user", None)


def doorbell_token(request: HttpRequest) -> HttpResponse:
    user = signed_in(request)
    if user is None:
        return HttpResponse("Sign in first.\n", status=401)
    # Signed with DOORBELL_JWT_SECRET, which is the service's own.
    token = create_user_token(org_id="acme", user_id=user)
    return HttpResponse(token, content_type="text/plain", headers={"cache-control": "no-store"})


@require_POST
def comment(request: HttpRequest, post: int) -> HttpResponse:
    user = signed_in(request)
    if user is None:
        return HttpResponse("Sign in first.\n", status=401)
    doorbell.send_in_app(
        org_id="acme",
        user_id="alice",  # Yours: whose post it is.
        type="comment",
        title=f"{user} commented",
        body=request.POST["text"],
        action_url=f"/posts/{post}",
        idempotency_key=f"comment-{request.POST['id']}",
    )
    return HttpResponse(status=204)


# What makes it a program: a project of yours has settings, a template, people who sign in, and
# serves its files.
import sys
from pathlib import Path

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import FileResponse
from django.urls import path

if not settings.configured:
    settings.configure(DEBUG=True, SECRET_KEY="an example", ROOT_URLCONF=__name__)


def page(request: HttpRequest) -> FileResponse:
    return FileResponse(Path(__file__).with_suffix(".html").open("rb"))


def sign_in(request: HttpRequest, user: str) -> HttpResponse:
    answer = HttpResponse(f"Hello {user}.\n")
    answer.set_signed_cookie("user", user)
    return answer


def standalone(request: HttpRequest) -> FileResponse:
    return FileResponse(Path("standalone.js").open("rb"), content_type="text/javascript")


# urls.py
urlpatterns = [
    path("", page),
    path("doorbell-token", doorbell_token),
    path("posts/<int:post>/comments", comment),
    path("sign-in/<user>", sign_in),
    path("standalone.js", standalone),
]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)

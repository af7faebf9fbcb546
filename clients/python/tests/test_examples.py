"""The examples, each a web application, against the real service."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from service import ROOT, SECRET, Service, sender_token

EXAMPLES = ROOT / "clients" / "python" / "examples"


@pytest.fixture
def example(shared: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports one as it stands, told where the service is."""
    monkeypatch.setenv("DOORBELL_URL", shared.url)
    monkeypatch.setenv("DOORBELL_TOKEN", sender_token())
    monkeypatch.setenv("DOORBELL_JWT_SECRET", SECRET)
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    yield import_module
    for name in ("django_app", "fastapi_app"):
        sys.modules.pop(name, None)


def test_the_first_send_of_the_readme(shared: Service, example: Any) -> None:
    readme = (EXAMPLES.parent / "README.md").read_text()
    [program, *_] = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(program, names)
    assert shared.inbox("alice")[0].data["likes"] == 3
    names["doorbell"].close()


def test_django(shared: Service, example: Any) -> None:
    app = example("django_app")
    import django
    from django.core.signing import get_cookie_signer
    from django.test import Client

    django.setup()
    client = Client()
    assert client.get("/doorbell-token").status_code == 401
    assert client.post("/posts/7/comments", {"text": "Hello"}).status_code == 403
    client.cookies["user"] = get_cookie_signer(salt="user").sign("bob")
    answer = client.get("/doorbell-token")
    assert answer["content-type"] == "text/plain" and answer["cache-control"] == "no-store"
    assert shared.ask("GetUnreadCount", answer.content.decode()).head.unread_count == 0
    assert client.post("/posts/7/comments", {"text": "Django!"}).status_code == 204
    newest = shared.inbox("alice")[0]
    assert (newest.title, newest.body, newest.action_url) == (
        "bob commented",
        "Django!",
        "/posts/7",
    )
    app.doorbell.close()


def test_fastapi(shared: Service, example: Any) -> None:
    app = example("fastapi_app")
    from fastapi import testclient

    opened: Any = testclient
    with opened.TestClient(app.app) as client:
        assert client.get("/doorbell-token").status_code == 401
        assert client.post("/posts/7/comments", json={"text": "Hello"}).status_code == 401
        app.app.dependency_overrides[app.signed_in] = lambda: "carol"
        answer = client.get("/doorbell-token")
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["cache-control"] == "no-store"
        assert shared.ask("GetUnreadCount", answer.text).head.unread_count == 0
        answer = client.post("/posts/7/comments", json={"text": "FastAPI!"})
        assert answer.status_code == 204, answer.text
    newest = shared.inbox("alice")[0]
    assert (newest.title, newest.body) == ("carol commented", "FastAPI!")

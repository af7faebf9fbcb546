"""The examples, each a web application, against the real service."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from service import ROOT, SECRET, Service, sender_token

README = ROOT / "clients" / "python" / "README.md"
EXAMPLES = (ROOT / "clients" / "python" / "examples", ROOT / "docs" / "examples")


@pytest.fixture
def example(shared: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports one as it stands, told where the service is."""
    monkeypatch.setenv("DOORBELL_URL", shared.url)
    monkeypatch.setenv("DOORBELL_TOKEN", sender_token())
    monkeypatch.setenv("DOORBELL_JWT_SECRET", SECRET)
    monkeypatch.setattr(sys, "path", [*map(str, EXAMPLES), *sys.path])
    yield import_module
    for name in ("django_site", "fastapi_app"):
        sys.modules.pop(name, None)


def pasted(page: Path) -> dict[str, Any]:
    """What the first Python of a page defines, without anything before it."""
    [program, *_] = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(program, names)
    return names


def test_the_first_send_of_the_readme(shared: Service, example: Any) -> None:
    names = pasted(README)
    assert shared.inbox("alice")[0].data["likes"] == 3
    names["doorbell"].close()


def test_the_views_of_the_start_with_django_are_whole(example: Any) -> None:
    names = pasted(ROOT / "docs" / "start" / "django.md")
    assert callable(names["comment"])
    names["doorbell"].close()


def test_django(shared: Service, example: Any) -> None:
    app = example("django_site")
    import django
    from django.test import Client

    django.setup()
    client = Client()
    assert client.get("/doorbell-token").status_code == 401
    comment = {"id": "1", "text": "Django!"}
    assert client.post("/posts/7/comments", comment).status_code == 401
    assert client.get("/posts/7/comments").status_code == 405
    assert client.get("/sign-in/bob").content == b"Hello bob.\n"
    answer = client.get("/doorbell-token")
    assert answer["content-type"] == "text/plain" and answer["cache-control"] == "no-store"
    assert shared.ask("GetUnreadCount", answer.content.decode()).head.unread_count == 0
    for _ in range(2):
        assert client.post("/posts/7/comments", comment).status_code == 204
    [newest] = [one for one in shared.inbox("alice") if one.body == "Django!"]
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
        comment = {"id": 2, "text": "FastAPI!"}
        assert client.post("/posts/7/comments", json=comment).status_code == 401
        app.app.dependency_overrides[app.signed_in] = lambda: "carol"
        answer = client.get("/doorbell-token")
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["cache-control"] == "no-store"
        assert shared.ask("GetUnreadCount", answer.text).head.unread_count == 0
        for _ in range(2):
            answer = client.post("/posts/7/comments", json=comment)
            assert answer.status_code == 204, answer.text
    [newest] = [one for one in shared.inbox("alice") if one.body == "FastAPI!"]
    assert newest.title == "carol commented"

"""What the tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from service import Blocking, Connect, Fake, Service, sender_token

from doorbell_client import Doorbell

@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for the tests of a module that do not harm it."""
    service = Service(tmp_path_factory.mktemp("service"))
    service.start()
    yield service
    service.kill()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service for one test alone."""
    own = Service(tmp_path)
    own.start()
    yield own
    own.kill()


@pytest.fixture(params=["sync", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes a client, of both kinds in turn."""
    made: list[Any] = []

    def make(url: str, token: Any = None, **options: Any) -> Doorbell:
        kind: Any = Doorbell if request.param == "sync" else Blocking
        made.append(kind(url, token or sender_token(), **options))
        return cast("Doorbell", made[-1])

    yield make
    for client in made:
        client.close()


@pytest.fixture
def fake() -> Iterator[Callable[..., Fake]]:
    """Makes a server that answers as it is told."""
    made: list[Fake] = []

    def make(*answers: Callable[[Any], bytes]) -> Fake:
        made.append(Fake(*answers))
        return made[-1]

    yield make
    for server in made:
        server.close()

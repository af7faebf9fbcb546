"""Deadlines, and which calls are made again, when."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import grpc
import pytest
from service import (
    CONTINUE,
    PATIENCE,
    ROOT,
    STOP,
    Connect,
    Fake,
    Relay,
    Resetting,
    Service,
    ok,
    refuse,
    sender_token,
)

from doorbell_client import AsyncDoorbell, Doorbell, DoorbellError
from doorbell_client._client import CHANNEL_OPTIONS
from doorbell_client._messages import message_class

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
SEND: dict[str, Any] = {"org_id": "acme", "user_id": "ann", "type": "a", "title": "A"}

MakeFake = Callable[..., Fake]


def keys(server: Fake) -> set[str]:
    """The idempotency keys of the sends that came."""
    request: Any = message_class("doorbell.v1.SendInAppRequest")
    return {request.FromString(body).idempotency_key for _, body, _ in server.calls}


def test_the_pause_is_as_long_as_the_service_asks(fake: MakeFake, connect: Connect) -> None:
    server = fake(refuse(EXHAUSTED, 0.4), refuse(UNAVAILABLE, 0.4), ok)
    connect(server.url).send_in_app(**SEND, timeout=PATIENCE)
    assert len(server.calls) == 3
    first, second, third = server.times
    assert second - first >= 0.4 and third - second >= 0.4
    [key] = keys(server)
    assert len(key) == 36


def test_a_pause_that_is_too_long_is_left_to_the_caller(fake: MakeFake, connect: Connect) -> None:
    server = fake(refuse(EXHAUSTED, 3600))
    with pytest.raises(DoorbellError, match="RESOURCE_EXHAUSTED: not now") as refused:
        connect(server.url).send_in_app(**SEND)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after.total_seconds() == 3600
    assert len(server.calls) == 1


def test_without_a_pause_that_is_asked_for_it_grows(fake: MakeFake, connect: Connect) -> None:
    server = fake(*[refuse(UNAVAILABLE)] * 3, ok)
    connect(server.url).send_in_app(**SEND, idempotency_key="mine", timeout=PATIENCE)
    assert keys(server) == {"mine"}
    pauses = [after - before for before, after in zip(server.times, server.times[1:])]
    assert all(pause >= least for pause, least in zip(pauses, (0.05, 0.1, 0.2), strict=True))


def test_retries_are_counted(fake: MakeFake, connect: Connect) -> None:
    server = fake(refuse(UNAVAILABLE))
    for retries in (0, 2):
        server.calls.clear()
        with pytest.raises(DoorbellError, match="UNAVAILABLE"):
            connect(server.url, retries=retries).send_in_app(**SEND, timeout=PATIENCE)
        assert len(server.calls) == retries + 1


def test_what_does_not_pass_is_not_tried_again(fake: MakeFake, connect: Connect) -> None:
    for code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT):
        server = fake(refuse(code))
        with pytest.raises(DoorbellError, match=code.name):
            connect(server.url).send_in_app(**SEND)
        assert len(server.calls) == 1


# NO_ERROR, INTERNAL_ERROR, CANCEL: gRPC makes INTERNAL and CANCELLED of them.
RESETS = (0, 2, 8)


def test_a_call_whose_stream_is_reset_is_made_again(connect: Connect) -> None:
    server = Resetting(*RESETS)
    try:
        doorbell = connect(server.url)
        doorbell.send_in_app(**SEND, timeout=PATIENCE)
        assert server.calls == 4
    finally:
        server.close()


def test_what_would_ring_twice_is_not_tried_again_after_a_reset(connect: Connect) -> None:
    server = Resetting(*RESETS)
    try:
        for calls in (1, 2, 3):
            with pytest.raises(DoorbellError, match="the connection broke before") as refused:
                connect(server.url).update_in_app(
                    org_id="acme", user_id="ann", notification_id="a", title="B", ring=True
                )
            assert (refused.value.code, server.calls) == ("UNAVAILABLE", calls)
    finally:
        server.close()


def test_follow_ups_go_on_after_a_reset(connect: Connect) -> None:
    server = Resetting(*RESETS)
    try:
        assert list(connect(server.url).follow_ups(org_id="acme", follow=False)) == []
        assert server.calls == 4
    finally:
        server.close()


def test_what_would_ring_twice_is_not_tried_again(fake: MakeFake, connect: Connect) -> None:
    update: dict[str, Any] = {"org_id": "acme", "user_id": "ann", "notification_id": "a"}
    server = fake(refuse(UNAVAILABLE), ok)
    with pytest.raises(DoorbellError, match="UNAVAILABLE"):
        connect(server.url).update_in_app(**update, title="B", ring=True)
    assert len(server.calls) == 1
    server = fake(refuse(UNAVAILABLE), ok)
    connect(server.url).update_in_app(**update, title="B")
    assert len(server.calls) == 2


def test_a_deadline_is_of_all_tries(fake: MakeFake, connect: Connect) -> None:
    server = fake(refuse(UNAVAILABLE))
    begun = time.monotonic()
    with pytest.raises(DoorbellError, match="UNAVAILABLE"):
        connect(server.url, timeout=1, retries=1000).send_in_app(**SEND)
    assert time.monotonic() - begun < PATIENCE / 2
    assert 2 <= len(server.calls) < 20


def test_the_token_is_asked_for_within_the_time(fake: MakeFake, connect: Connect) -> None:
    left: list[float] = []

    def answer(context: Any) -> bytes:
        left.append(context.time_remaining())
        return b""

    def token() -> str:
        time.sleep(1)
        return sender_token()

    server = fake(answer)
    connect(server.url, token).send_in_app(**SEND, timeout=PATIENCE)
    # To a tenth of a second, as gRPC sends it.
    assert left[0] <= PATIENCE - 0.9


def test_a_token_that_never_comes_is_given_up(fake: MakeFake) -> None:
    async def token() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async def run() -> None:
        async with AsyncDoorbell(server.url, token, timeout=0.2) as doorbell:
            with pytest.raises(DoorbellError, match="took too long") as refused:
                await asyncio.wait_for(doorbell.send_in_app(**SEND), PATIENCE)
        assert refused.value.code == "UNAUTHENTICATED"

    server = fake(ok)
    asyncio.run(run())
    assert server.calls == []


def test_a_service_that_does_not_answer_is_given_up(service: Service, connect: Connect) -> None:
    doorbell = connect(service.url, timeout=0.5)
    service.signal(STOP)
    try:
        with pytest.raises(DoorbellError, match="did not answer in time") as refused:
            doorbell.send_in_app(**SEND)
        assert refused.value.code == "DEADLINE_EXCEEDED"
    finally:
        service.signal(CONTINUE)
    doorbell.send_in_app(**SEND, timeout=PATIENCE)


def test_a_connection_on_which_nobody_answers_is_left(service: Service, connect: Connect) -> None:
    relay = Relay(service.port)
    try:
        doorbell = connect(relay.url)
        doorbell.send_in_app(**SEND)
        assert relay.lose() == 1
        doorbell.send_in_app(**SEND, timeout=PATIENCE)
    finally:
        relay.close()
    assert service.titles("ann") == {"A": 2}


def test_the_service_takes_more_pings_than_are_sent(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One a second, which is the most that gRPC sends; its own server refuses the fifth."""
    options = dict(CHANNEL_OPTIONS) | {"grpc.keepalive_time_ms": 1_000}
    monkeypatch.setattr("doorbell_client._client.CHANNEL_OPTIONS", list(options.items()))
    with Doorbell(service.url, sender_token(), retries=0) as doorbell:
        page = doorbell.list_follow_ups(org_id="acme", wait=timedelta(seconds=8), timeout=PATIENCE)
    assert page.follow_ups == []


SENDS = 300


def test_who_is_killed_amid_sends_of_threads_has_each_once(service: Service) -> None:
    with Doorbell(service.url, sender_token(), timeout=PATIENCE, retries=1000) as doorbell:
        done = Counter[str]()
        half = threading.Event()

        def send(number: int) -> None:
            title = f"{number}"
            doorbell.send_in_app(org_id="acme", user_id="ann", type="a", title=title)
            done[title] += 1
            if len(done) >= SENDS // 3:
                half.set()

        with ThreadPoolExecutor(16) as pool:
            running = [pool.submit(send, number) for number in range(SENDS)]
            assert half.wait(PATIENCE)
            service.kill()
            assert len(done) < SENDS, "it was killed too late"
            service.start()
            for one in running:
                one.result()
    assert service.titles("ann") == done == Counter(map(str, range(SENDS)))


def test_who_is_killed_amid_sends_of_tasks_has_each_once(service: Service) -> None:
    done = Counter[str]()

    async def run() -> None:
        half = asyncio.Event()

        async def send(number: int) -> None:
            async with slots:
                await doorbell.send_in_app(
                    org_id="acme", user_id="ann", type="a", title=f"{number}"
                )
            done[f"{number}"] += 1
            if len(done) >= SENDS // 3:
                half.set()

        slots = asyncio.Semaphore(16)
        client = AsyncDoorbell(service.url, sender_token(), timeout=PATIENCE, retries=1000)
        async with client as doorbell:
            running = [asyncio.create_task(send(number)) for number in range(SENDS)]
            await asyncio.wait_for(half.wait(), PATIENCE)
            service.kill()
            assert len(done) < SENDS, "it was killed too late"
            await asyncio.to_thread(service.start)
            await asyncio.gather(*running)

    asyncio.run(run())
    assert service.titles("ann") == done == Counter(map(str, range(SENDS)))


def test_the_service_config_of_the_guide_retries(fake: MakeFake) -> None:
    """What other languages are told to use is understood by gRPC, and does what it says."""
    text = (ROOT / "docs" / "examples" / "service-config.json").read_text()
    attempts: int = json.loads(text)["methodConfig"][0]["retryPolicy"]["maxAttempts"]

    def call(server: Fake, method: str) -> None:
        options = [("grpc.service_config", text)]
        target = server.url.removeprefix("http://")
        with grpc.insecure_channel(target, options=options) as opened:
            channel: Any = opened
            stub = channel.unary_unary(f"/doorbell.v1.{method}")
            stub(b"", timeout=PATIENCE)

    for code in (UNAVAILABLE, EXHAUSTED):
        for method in (
            "NotificationService/SendInApp",
            "SendService/Broadcast",
            "OperatorService/GetTimeline",
            "OperatorService/EraseInbox",
        ):
            server = fake(refuse(code), ok)
            call(server, method)
            assert len(server.calls) == 2
    server = fake(refuse(UNAVAILABLE))
    with pytest.raises(grpc.RpcError):
        call(server, "SendService/GetSend")
    assert len(server.calls) == attempts
    # A correction may ring, and a long poll has its own loop.
    for method in ("NotificationService/UpdateInApp", "SendService/ListFollowUps"):
        server = fake(refuse(UNAVAILABLE), ok)
        with pytest.raises(grpc.RpcError):
            call(server, method)
        assert len(server.calls) == 1

"""Follow-ups as a stream: what stops meanwhile, where it goes on, what waiting does not mend."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from service import PATIENCE, Connect, Fake, Service, eventually, refuse, sender_token

from doorbell_client import Doorbell, DoorbellError, FollowUp, FollowUpOptions, FollowUpUnless
from doorbell_client._messages import message_class, to_message


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is logged of a service that is away."""
    return [
        record.getMessage()
        for record in caplog.records
        if (record.name, record.levelno) == ("doorbell_client", logging.WARNING)
    ]


def send(doorbell: Doorbell, user_id: str) -> str:
    """Sends what is to be followed up in a second, and answers with its id."""
    sent = doorbell.send_in_app(
        org_id="acme",
        user_id=user_id,
        type="invoice",
        title="It is due",
        follow_up=FollowUpOptions(after=timedelta(seconds=1)),
        timeout=PATIENCE,
    )
    assert sent.notification is not None
    return sent.notification.id


def test_each_comes_though_the_service_is_killed(
    service: Service, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    doorbell, worker = connect(service.url), connect(service.url)
    told: list[FollowUp] = []

    def work() -> None:
        for follow_up in worker.follow_ups(org_id="acme"):
            told.append(follow_up)
            if len(told) == 3:
                return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    anns = send(doorbell, "ann")
    eventually(lambda: len(told) == 1, "the first is told")
    bobs = send(doorbell, "bob")
    eventually(lambda: len(told) == 2, "the second is told")
    assert [one.user_id for one in told] == ["ann", "bob"]
    assert told[0].unless is FollowUpUnless.READ and told[0].due_time.tzinfo is not None

    # It waits for the third while the service dies, and is away.
    service.kill()
    eventually(lambda: len(complaints(caplog)) >= 2, "it asks in vain")
    service.start()
    cats = send(doorbell, "cat")
    thread.join(PATIENCE)
    assert [one.notification.id for one in told] == [anns, bobs, cats]
    first, _, third = told

    # Another worker goes on where the noted position says, and ends where there are no more.
    rest = doorbell.follow_ups(org_id="acme", after=first.position, follow=False)
    assert [one.notification.id for one in rest] == [bobs, cats]
    rest = doorbell.follow_ups(org_id="acme", after=third.position, follow=False)
    assert list(rest) == []
    # The position of a database that was restored since: all comes anew.
    number, _ = third.position.split(" ")
    rest = doorbell.follow_ups(org_id="acme", after=f"{number} of-another", follow=False)
    assert [one.user_id for one in rest] == ["ann", "bob", "cat"]


def answer(position: int, epoch: str, *users: str) -> Callable[[Any], bytes]:
    """A page of follow-ups."""
    listed: Any = message_class("doorbell.v1.ListFollowUpsResponse")()
    for number, user_id in enumerate(users, position - len(users) + 1):
        listed.follow_ups.add(position=number, user_id=user_id).notification.SetInParent()
    listed.position, listed.epoch = position, epoch
    return lambda _: listed.SerializeToString()


def test_another_epoch_in_the_midst_goes_on_with_it(
    fake: Callable[..., Fake], connect: Connect
) -> None:
    server = fake(
        answer(5, "old", "ann", "bob"),
        refuse(grpc.StatusCode.UNAVAILABLE, 0.01),
        answer(1, "new", "ann"),
        answer(1, "new"),
    )
    doorbell = connect(server.url)
    following = doorbell.follow_ups(org_id="acme", after="3 old", follow=False)
    assert [one.position for one in following] == ["4 old", "5 old", "1 new"]
    request: Any = message_class("doorbell.v1.ListFollowUpsRequest")
    asked = [request.FromString(body) for _, body, _ in server.calls]
    positions = [(one.after_position, one.epoch) for one in asked]
    assert positions == [(3, "old"), (5, "old"), (5, "old"), (1, "new")]


def test_it_waits_where_it_follows(fake: Callable[..., Fake], connect: Connect) -> None:
    server = fake(answer(0, "e"), answer(1, "e", "ann"))
    following = connect(server.url).follow_ups(org_id="acme")
    assert next(iter(following)).user_id == "ann"
    expected = to_message(
        "doorbell.v1.ListFollowUpsRequest",
        {"organization_id": "acme", "limit": 100, "wait": timedelta(seconds=30)},
    )
    assert server.calls[0][1] == expected.SerializeToString()


def test_what_waiting_does_not_mend_is_raised(
    shared: Service, fake: Callable[..., Fake], connect: Connect
) -> None:
    server = fake(
        refuse(grpc.StatusCode.DEADLINE_EXCEEDED),
        refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, 0.01),
        refuse(grpc.StatusCode.UNAUTHENTICATED),
    )
    with pytest.raises(DoorbellError, match="UNAUTHENTICATED"):
        next(iter(connect(server.url).follow_ups(org_id="acme")))
    assert len(server.calls) == 3
    doorbell = connect(shared.url, sender_token("globex"))
    with pytest.raises(DoorbellError, match="WRONG_ORGANIZATION"):
        next(iter(doorbell.follow_ups(org_id="acme")))
    for position in ("7", "x e", " "):
        with pytest.raises(ValueError, match="after: must be the `position`"):
            next(iter(doorbell.follow_ups(org_id="acme", after=position)))

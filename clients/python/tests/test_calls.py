"""Each call, by both clients, against the real service."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import pickle
import uuid
from datetime import timedelta, timezone
from typing import Any, cast

import pytest
from service import Connect, Service, eventually, sender_token

from doorbell_client import (
    About,
    Action,
    AsyncDoorbell,
    Doorbell,
    DoorbellError,
    FollowUpOptions,
    FollowUpUnless,
    SendState,
    Suppressed,
    TypeDefault,
    Violation,
)
from doorbell_client._call import Call
from doorbell_client._generated import calls


def later(**ahead: float) -> datetime.datetime:
    return datetime.datetime.now(timezone.utc) + timedelta(**ahead)


def test_what_is_sent_is_what_comes(shared: Service, connect: Connect) -> None:
    doorbell = connect(shared.url)
    user = uuid.uuid4().hex
    data: dict[str, Any] = {
        "likes": 3,
        "ratio": 0.5,
        "names": ["Bob", None, True],
        "within": {"deep": {}},
        "far": 2**53,
    }
    expire_time = later(days=1)
    action = Action(label="Open", url="https://example.com/7", is_primary=True)
    sent = doorbell.send_in_app(
        org_id="acme",
        user_id=user,
        type="comment",
        title="Bob commented",
        body="Looks good",
        entity_type="post",
        entity_id="7",
        action_url="/posts/7",
        data=data,
        image_url="/bob.png",
        actions=[action],
        expire_time=expire_time,
        idempotency_key="comment-7",
    )
    notification = sent.notification
    assert notification is not None and sent.head is not None
    assert not sent.duplicate and sent.suppressed is None and sent.send is None
    assert (notification.type, notification.title) == ("comment", "Bob commented")
    assert (notification.body, notification.entity_id) == ("Looks good", "7")
    assert notification.action_url == "/posts/7" and notification.image_url == "/bob.png"
    assert notification.data == data
    assert notification.data is not None and isinstance(notification.data["likes"], int)
    assert notification.actions == [action]
    assert notification.expire_time == expire_time
    assert notification.created_at.tzinfo is timezone.utc
    assert abs(notification.created_at - later()) < timedelta(minutes=5)
    assert notification.read_at is None and notification.removed_at is None
    assert (sent.head.unread_count, sent.head.revision) == (1, 1)
    [there] = shared.inbox(user)
    assert there.id == notification.id

    again = doorbell.send_in_app(
        org_id="acme",
        user_id=user,
        type="comment",
        title="Bob commented",
        body="Looks good",
        entity_type="post",
        entity_id="7",
        action_url="/posts/7",
        data=data,
        image_url="/bob.png",
        actions=[action],
        idempotency_key="comment-7",
    )
    assert again.duplicate and again.notification == notification


def test_each_call(shared: Service, connect: Connect) -> None:
    """All of them in one story; none is left out."""
    made: set[str] = set()
    org = uuid.uuid4().hex
    client = connect(shared.url, sender_token(org))

    class Recorded:
        """The client, that notes what it is asked."""

        def __getattr__(self, name: str) -> Any:
            made.add(name)
            return getattr(client, name)

    doorbell = cast("Doorbell", Recorded())
    content: dict[str, Any] = {"type": "notice", "title": "Lunch"}

    added = doorbell.add_topic_members(org_id=org, topic_id="t", user_ids=["ann", "bob", "cat"])
    assert added.added_count == 3
    removed = doorbell.remove_topic_members(org_id=org, topic_id="t", user_ids=["cat"])
    assert removed.removed_count == 1
    members = doorbell.list_topic_members(org_id=org, topic_id="t", page_size=1)
    assert list(members) == ["ann", "bob"]
    assert list(doorbell.list_topics_of_user(org_id=org, user_id="ann")) == ["t"]

    to_topic = doorbell.send_to_topic(
        org_id=org, topic_id="t", **content, entity_type="project", entity_id="7"
    ).send
    assert to_topic.topic_id == "t" and to_topic.content.title == "Lunch"

    def is_done() -> bool:
        return (
            doorbell.get_send(org_id=org, send_id=to_topic.id).send.state is SendState.DONE
        )

    eventually(is_done, "the topic has it")
    assert shared.inbox("bob", org)[0].title == "Lunch"
    assert doorbell.delete_topic(org_id=org, topic_id="t").removed_count == 2

    many = doorbell.send_to_many(org_id=org, user_ids=["ann", "bob"], **content)
    assert (many.sent_count, many.error_count) == (2, 0)
    assert [result.user_id for result in many.results] == ["ann", "bob"]

    waits = doorbell.send_in_app(org_id=org, user_id="ann", **content, deliver_time=later(days=1))
    assert waits.notification is None and waits.send is not None
    assert waits.send.state is SendState.WAITING
    waiting = doorbell.list_sends(org_id=org, state=SendState.WAITING)
    assert [send.id for send in waiting] == [waits.send.id]
    to_all = doorbell.broadcast(org_id=org, **content).send
    listed = doorbell.list_sends(org_id=org, page_size=1)
    assert [send.id for send in listed] == [to_all.id, waits.send.id, to_topic.id]
    cancelled = doorbell.cancel_send(org_id=org, send_id=waits.send.id).send
    assert cancelled.state is SendState.CANCELLED and cancelled.ended_at is not None
    back = doorbell.retract_broadcast(org_id=org, send_id=to_all.id).send
    assert back.state is SendState.CANCELLED

    sent = doorbell.send_in_app(
        org_id=org, user_id="dan", **content, body="At noon", data={"a": 1}, idempotency_key="k"
    )
    assert sent.notification is not None
    corrected = doorbell.update_in_app(
        org_id=org, user_id="dan", idempotency_key="k", title="Dinner", body=None
    )
    assert corrected.changed and corrected.notification.id == sent.notification.id
    assert corrected.notification.title == "Dinner" and corrected.notification.body is None
    assert corrected.notification.data == {"a": 1}
    taken = doorbell.retract_in_app(
        org_id=org, user_id="dan", notification_ids=[sent.notification.id]
    )
    assert taken.changed_count == 1 and shared.inbox("dan", org) == []

    project = About(entity_type="project", entity_id="7")
    retraction = doorbell.retract_from_all(org_id=org, about=project).retraction
    assert retraction.about == project

    def is_through() -> bool:
        found = doorbell.get_retraction(org_id=org, retraction_id=retraction.id)
        return found.retraction.ended_at is not None

    eventually(is_through, "it is taken back from all")
    assert [one.entity_id for one in shared.inbox("bob", org)] == [""]

    security = TypeDefault(type="security", on=True, required=True)
    tips = TypeDefault(type="tips")
    said = doorbell.update_type_defaults(org_id=org, defaults=[security, tips])
    assert said.defaults == [security, tips]
    said = doorbell.update_type_defaults(org_id=org, removed_types=["security"])
    assert said.defaults == doorbell.get_type_defaults(org_id=org).defaults == [tips]

    muted = doorbell.send_in_app(org_id=org, user_id="eve", type="tips", title="Did you know?")
    assert muted.suppressed is Suppressed.MUTED and muted.notification is None

    doorbell.send_in_app(
        org_id=org,
        user_id="eve",
        **content,
        follow_up=FollowUpOptions(after=timedelta(seconds=1), unless=FollowUpUnless.SEEN),
    )
    page = doorbell.list_follow_ups(org_id=org, wait=timedelta(seconds=30))
    [told] = page.follow_ups
    assert told.user_id == "eve" and told.unless is FollowUpUnless.SEEN
    assert told.position == page.position == 1 and page.epoch

    constants = {name.lower() for name, one in vars(calls).items() if isinstance(one, Call)}
    assert made == constants


def test_what_is_wrong_is_told_by_the_names_of_the_arguments(
    shared: Service, connect: Connect
) -> None:
    doorbell = connect(shared.url)
    with pytest.raises(DoorbellError) as refused:
        doorbell.send_in_app(org_id="acme", user_id="", type="comment", title="")
    error = refused.value
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert error.violations == [
        Violation("user_id", "is required"),
        Violation("title", "is required"),
    ]
    assert error.message == "user_id: is required; title: is required"
    assert str(error) == f"INVALID_ARGUMENT (INVALID_REQUEST): {error.message}"
    assert error.retry_after is None
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.violations) == (str(error), error.violations)

    with pytest.raises(DoorbellError) as refused:
        doorbell.send_to_many(org_id="acme", user_ids=["ann", ""], type="", title="Lunch")
    fields = [violation.field for violation in refused.value.violations]
    assert sorted(fields) == ["type", "user_ids[1]"]


def test_an_error_says_why(shared: Service, connect: Connect) -> None:
    doorbell = connect(shared.url)
    with pytest.raises(DoorbellError) as refused:
        doorbell.send_in_app(org_id="globex", user_id="ann", type="comment", title="Hello")
    assert refused.value.code == "PERMISSION_DENIED"
    assert refused.value.reason == "WRONG_ORGANIZATION"
    doorbell = connect(shared.url, sender_token(exp=1))
    with pytest.raises(DoorbellError, match="TOKEN_EXPIRED"):
        doorbell.send_in_app(org_id="acme", user_id="ann", type="comment", title="Hello")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"user_id": 7}, r"user_id: cannot be 7 \(int\)"),
        ({"expire_time": datetime.datetime(2027, 1, 1)}, "expire_time: .* with a time zone"),
        ({"data": {"at": later()}}, "data.at: JSON has nothing of the type datetime"),
        ({"data": {"id": 2**53 + 1}}, "data.id: JSON has no such number"),
        ({"data": {"a": [0, float("nan")]}}, r"data.a\[1\]: JSON has no such number"),
        ({"data": {1: 2}}, "data: keys must be strings"),
        ({"data": [1]}, "data: must be a dict"),
        ({"actions": [{"label": "a", "url": 1}]}, r"actions\[0\].url: cannot be 1"),
        ({"actions": ["a"]}, r"actions\[0\]: must be of the type Action"),
        ({"actions": "a"}, "actions: must be a list"),
        ({"follow_up": timedelta(1)}, "follow_up: must be of the type FollowUpOptions"),
        ({"follow_up": FollowUpOptions(after=7)}, "follow_up.after: must be a timedelta"),  # type: ignore[arg-type]  # pyright: ignore
    ],
)
def test_an_argument_that_can_be_in_no_request_is_named(
    arguments: dict[str, Any], what: str
) -> None:
    doorbell = Doorbell("http://127.0.0.1:1", "token")
    rest: dict[str, Any] = {"org_id": "acme", "user_id": "ann", "type": "a", "title": "A"}
    with pytest.raises((TypeError, ValueError), match=what):
        doorbell.send_in_app(**rest | arguments)


def test_the_client_is_made_as_it_is_told(
    shared: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DOORBELL_URL", "DOORBELL_TOKEN", "DOORBELL_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="token: there is none"):
        Doorbell(shared.url)
    for url in ("127.0.0.1:50051", "ftp://a", "http://", "http://a/b", "http://a?b", "http://u@a"):
        with pytest.raises(ValueError, match="url: must be"):
            Doorbell(url, "token")
    with pytest.raises(ValueError, match="retries: must not be below 0"):
        Doorbell(shared.url, "token", retries=-1)
    monkeypatch.setenv("DOORBELL_URL", shared.url)
    monkeypatch.setenv("DOORBELL_TOKEN", sender_token())
    with Doorbell() as doorbell:
        assert list(doorbell.list_topic_members(org_id="acme", topic_id="none")) == []
    # What is closed opens again.
    assert list(doorbell.list_topic_members(org_id="acme", topic_id="none")) == []
    doorbell.close()
    with pytest.raises(ValueError, match="timeout: must be above 0"):
        doorbell.get_send(org_id="acme", send_id="a", timeout=0)


def test_a_token_is_asked_for_before_each_try(shared: Service, connect: Connect) -> None:
    tokens: list[str] = [sender_token("globex"), f" {sender_token()}\n", "not a\ntoken"]
    doorbell = connect(shared.url, lambda: tokens.pop(0))
    with pytest.raises(DoorbellError, match="WRONG_ORGANIZATION"):
        doorbell.get_type_defaults(org_id="acme")
    assert doorbell.get_type_defaults(org_id="acme").defaults == []
    with pytest.raises(ValueError, match="token: must be") as refused:
        doorbell.get_type_defaults(org_id="acme")
    assert "not a" not in str(refused.value)


def test_a_token_may_be_awaited(shared: Service) -> None:
    async def get_token() -> str:
        return sender_token()

    async def ask() -> None:
        async with AsyncDoorbell(shared.url, get_token) as doorbell:
            assert (await doorbell.get_type_defaults(org_id="acme")).defaults == []

    asyncio.run(ask())


def test_types_are_values() -> None:
    about = About(entity_type="post", entity_id="7")
    assert about == About(entity_type="post", entity_id="7")
    with pytest.raises(dataclasses.FrozenInstanceError):
        about.entity_id = "8"  # type: ignore[misc]  # pyright: ignore
    assert SendState("DONE") is SendState.DONE

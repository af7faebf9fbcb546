"""A program of somebody who has the package."""

from doorbell_client import Doorbell, DoorbellError, Notification


def send(doorbell: Doorbell) -> Notification:
    sent = doorbell.send_in_app(
        org_id="acme",
        user_id="user-of-the-wheel",
        type="like",
        title="Bob likes your post",
        data={"likes": 3},
    )
    assert sent.notification is not None and sent.head is not None
    print(sent.head.unread_count, "unread")
    return sent.notification


with Doorbell() as doorbell:
    try:
        notification = send(doorbell)
    except DoorbellError as error:
        raise SystemExit(f"{error.code}: {error.message}") from error
    print((notification.data or {})["likes"], "likes")

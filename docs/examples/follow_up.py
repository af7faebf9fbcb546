"""E-mails who has not read in time what was sent with a `follow_up`: see README.md."""

import os
import smtplib
import sys
import time
from email.message import EmailMessage
from email.utils import formatdate
from urllib.parse import urlsplit

import grpc
from doorbell.v1.sends_pb2 import ListFollowUpsRequest
from doorbell.v1.sends_pb2_grpc import SendServiceStub

FROM, SITE = "notifications@example.com", "https://app.example.com"
NOTED, SMTP = os.environ["POSITION_FILE"], (os.environ["SMTP_HOST"], int(os.environ["SMTP_PORT"]))
AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def address_of(user_id):  # Yours: look it up where your users are.
    return f"{user_id}@example.com"


def mail(user_id, notification):
    message = EmailMessage()
    message["From"], message["To"] = FROM, address_of(user_id)
    message["Date"] = formatdate()
    message["Subject"] = " ".join(notification.title.split())  # A header is one line.
    # The same each time it is told, so that a mail that comes twice can be recognized.
    message["Message-ID"] = f"<{notification.id}@doorbell.example.com>"
    link = notification.action_url
    link = SITE + link if link.startswith("/") else link
    message.set_content(f"{notification.body}\n\n{link}\n")
    with smtplib.SMTP(*SMTP, timeout=30) as smtp:
        smtp.send_message(message)


def note(position, epoch):  # Renamed into place: it is never half written.
    with open(NOTED + ".new", "w") as file:
        file.write(f"{position} {epoch}")
    os.replace(NOTED + ".new", NOTED)


url = urlsplit(os.environ["DOORBELL_URL"])
tls = grpc.ssl_channel_credentials()
is_secure = url.scheme == "https"
sends = SendServiceStub(
    grpc.secure_channel(url.netloc, tls) if is_secure else grpc.insecure_channel(url.netloc)
)
request = ListFollowUpsRequest(organization_id=os.environ["ORGANIZATION"], wait={"seconds": 30})
token = [("authorization", "Bearer " + os.environ["DOORBELL_TOKEN"])]
if os.path.exists(NOTED):
    position, request.epoch = open(NOTED).read().split()
    request.after_position = int(position)
while True:
    try:
        page = sends.ListFollowUps(request, metadata=token, timeout=40)  # Longer than the wait.
    except grpc.RpcError as error:
        if error.code() not in AGAIN:
            raise
        print(error.details(), file=sys.stderr)
        time.sleep(1)
        continue
    for follow_up in page.follow_ups:
        notification = follow_up.notification
        if not (notification.HasField("read_at") or notification.HasField("removed_at")):
            mail(follow_up.user_id, notification)
        note(follow_up.position, page.epoch)  # After the mail: twice is better than never.
    request.after_position, request.epoch = page.position, page.epoch

"""E-mails who has not read in time what was sent with a `follow_up`: see README.md."""

import os
import smtplib
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path

from doorbell_client import Doorbell, Notification

FROM, SITE = "notifications@example.com", "https://app.example.com"
NOTED = Path(os.environ["POSITION_FILE"])


def address_of(user_id: str) -> str:  # Yours: look it up where your users are.
    return f"{user_id}@example.com"


def mail(user_id: str, notification: Notification) -> None:
    message = EmailMessage()
    message["From"], message["To"] = FROM, address_of(user_id)
    message["Date"] = formatdate()
    message["Subject"] = " ".join(notification.title.split())  # A header is one line.
    # The same each time it is told, so that a mail that comes twice can be recognized.
    message["Message-ID"] = f"<{notification.id}@doorbell.example.com>"
    link = notification.action_url or ""
    link = SITE + link if link.startswith("/") else link
    message.set_content(f"{notification.body or ''}\n\n{link}\n")
    with smtplib.SMTP(os.environ["SMTP_HOST"], int(os.environ["SMTP_PORT"]), timeout=30) as smtp:
        smtp.send_message(message)


doorbell = Doorbell()  # DOORBELL_URL and DOORBELL_TOKEN say where, and as whom.
after = NOTED.read_text() if NOTED.exists() else None
for follow_up in doorbell.follow_ups(org_id=os.environ["ORGANIZATION"], after=after):
    if not (follow_up.notification.read_at or follow_up.notification.removed_at):
        mail(follow_up.user_id, follow_up.notification)
    # Noted after the mail: twice is better than never. Renamed: it is never half written.
    NOTED.with_suffix(".new").write_text(follow_up.position)
    NOTED.with_suffix(".new").replace(NOTED)

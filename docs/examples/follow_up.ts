// E-mails who has not read in time what was sent with a `followUp`: see README.md.
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";

import { Doorbell, type Notification } from "@doorbell/node";
import { createTransport } from "nodemailer";

const { ORGANIZATION: orgId = "", POSITION_FILE = "", SMTP_HOST, SMTP_PORT } = process.env;
const [from, site] = ["notifications@example.com", "https://app.example.com"];
const smtp = createTransport({ host: SMTP_HOST, port: Number(SMTP_PORT) });

// Yours: look it up where your users are.
const addressOf = (userId: string) => `${userId}@example.com`;

function mail(userId: string, { id, title, body = "", actionUrl = "" }: Notification) {
  const text = `${body}\n\n${actionUrl.startsWith("/") ? site + actionUrl : actionUrl}\n`;
  // The same each time it is told, so that a mail that comes twice can be recognized.
  const messageId = `<${id}@doorbell.example.com>`;
  return smtp.sendMail({ from, to: addressOf(userId), subject: title, text, messageId });
}

const after = existsSync(POSITION_FILE) ? readFileSync(POSITION_FILE, "utf8") : "";
const onError = (error: Error) => console.error(error.message);
for await (const followUp of new Doorbell().followUps({ orgId, after, onError })) {
  const { userId, notification } = followUp;
  const isOver = notification?.readAt || notification?.removedAt;
  if (notification && !isOver) await mail(userId, notification);
  writeFileSync(`${POSITION_FILE}.new`, followUp.position); // After the mail: twice is better than never.
  renameSync(`${POSITION_FILE}.new`, POSITION_FILE); // Renamed into place: it is never half written.
}

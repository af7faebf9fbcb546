// E-mails who has not read in time what was sent with a `follow_up`: see README.md.
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { createTransport } from "nodemailer";

import type { Notification } from "./gen/doorbell/v1/notifications_pb.js";
import { SendService } from "./gen/doorbell/v1/sends_pb.js";

const { DOORBELL_URL = "", DOORBELL_TOKEN, ORGANIZATION, POSITION_FILE = "" } = process.env;
const [from, site] = ["notifications@example.com", "https://app.example.com"];
const smtp = createTransport({ host: process.env.SMTP_HOST, port: Number(process.env.SMTP_PORT) });
const sends = createClient(SendService, createGrpcTransport({ baseUrl: DOORBELL_URL }));
const headers = { authorization: `Bearer ${DOORBELL_TOKEN}` };

// Yours: look it up where your users are.
const addressOf = (userId: string) => `${userId}@example.com`;

function mail(userId: string, { id, title, body = "", actionUrl = "" }: Notification) {
  const link = actionUrl.startsWith("/") ? site + actionUrl : actionUrl;
  const text = `${body}\n\n${link}\n`;
  // The same each time it is told, so that a mail that comes twice can be recognized.
  const messageId = `<${id}@doorbell.example.com>`;
  return smtp.sendMail({ from, to: addressOf(userId), subject: title, text, messageId });
}

// Renamed into place: it is never half written.
function note(position: bigint, epoch: string) {
  writeFileSync(`${POSITION_FILE}.new`, `${position} ${epoch}`);
  renameSync(`${POSITION_FILE}.new`, POSITION_FILE);
}

const noted = existsSync(POSITION_FILE) ? readFileSync(POSITION_FILE, "utf8") : "0 ";
let [afterPosition, epoch] = [BigInt(noted.split(" ")[0]!), noted.split(" ")[1]!];
// The last two are what a connection that broke is called here.
const again = [Code.Unavailable, Code.DeadlineExceeded, Code.Canceled, Code.Aborted];
const options = { headers, timeoutMs: 40_000 }; // Longer than the wait.
for (;;) {
  const request = { organizationId: ORGANIZATION, afterPosition, epoch, wait: { seconds: 30n } };
  const page = await sends.listFollowUps(request, options).catch((error: unknown) => {
    const { code, rawMessage } = ConnectError.from(error);
    if (!again.includes(code)) throw error;
    console.error(rawMessage);
  });
  if (!page) {
    await sleep(1_000);
    continue;
  }
  for (const { position, userId, notification } of page.followUps) {
    const isOver = notification?.readAt || notification?.removedAt;
    if (notification && !isOver) await mail(userId, notification);
    note(position, page.epoch); // After the mail: twice is better than never.
  }
  [afterPosition, epoch] = [page.position, page.epoch];
}

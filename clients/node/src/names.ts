// Names of the proto, and what they are here: in camelCase, and those that every call has, short.

/** What is called otherwise here. */
export interface Short {
  organizationId: "orgId";
  recipientUserId: "userId";
  recipientUserIds: "userIds";
}
const SHORT: Short = {
  organizationId: "orgId",
  recipientUserId: "userId",
  recipientUserIds: "userIds",
};

/** What a field is called here that is `recipientUserId` to protobuf-es. */
export function shortName(name: string): string {
  return SHORT[name as keyof Short] ?? name;
}

/** What a path of the proto is here: `content.action_url` is `content.actionUrl`. */
export function pathOf(path: string): string {
  const camel = path.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
  return camel.replace(/\w+/g, shortName);
}

/** `actionUrl` is `action_url`, in a path too. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

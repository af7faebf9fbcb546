// Names of the proto, and what they are here.

/** `recipient_user_id` is `recipientUserId`, in a path too. */
export function camelCase(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** `recipientUserId` is `recipient_user_id`, in a path too. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

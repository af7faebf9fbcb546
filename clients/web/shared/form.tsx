// What the forms of the live page and of the operators' page have in common.

import type { ComponentProps } from "react";

export function Field({ label, ...input }: ComponentProps<"input"> & { readonly label: string }) {
  return (
    <label>
      {label}
      <input autoComplete="off" spellCheck={false} {...input} />
    </label>
  );
}

/** One a line: a label and where it leads; the first is the one to take most likely. */
export function actionsOf(text: string) {
  const lines = text.split("\n").map((line) => line.trim());
  return lines.filter(Boolean).map((line, at) => {
    const [, label = line, url = ""] = /^(.*)\s(\S+)$/.exec(line) ?? [];
    return { label, url, isPrimary: at === 0 };
  });
}

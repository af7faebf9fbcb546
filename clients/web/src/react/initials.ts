// What stands for a notification that has no image.

/** The first letters of the first two words, as a reader sees letters: those of several
 * code points too. */
export function initialsOf(title: string): string {
  const words = title.split(/\s+/).map((word) => word.replace(/^[^\p{L}\p{N}]+/u, ""));
  const letters = words.flatMap((word) => firstLetter(word));
  return letters.slice(0, 2).join("").toLocaleUpperCase();
}

function firstLetter(word: string): readonly string[] {
  const [first] = /^.(?:\p{M}|\u200d.)*/u.exec(word) ?? [];
  return first === undefined ? [] : [first];
}

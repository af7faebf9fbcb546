// A sound for what rings.

import type { InboxClient } from "./client.js";

/** Plays the sound at this address for what rings: in one of all tabs, and once for what
 * rings while it plays. A browser lets a page play only after the person has clicked or
 * typed there: until then nothing is heard, and nothing is made up for. Answers what ends
 * it. */
export function ringSound(inbox: Pick<InboxClient, "onNotification">, src: string): () => void {
  let audio: HTMLAudioElement | undefined;
  let isPlaying = false;
  const play = async () => {
    if (isPlaying) return;
    isPlaying = true;
    try {
      audio ??= new Audio(src);
      // What was cut off begins anew.
      audio.currentTime = 0;
      await audio.play();
      const sounding = audio;
      await new Promise((done) => {
        for (const end of ["ended", "pause", "error"]) sounding.addEventListener(end, done, { once: true });
      });
    } catch {
      // It may not play yet, or there is no such sound: the next one tries again.
    }
    isPlaying = false;
  };
  const forget = inbox.onNotification((_, __, leads) => {
    if (leads) void play();
  });
  return () => {
    forget();
    audio?.pause();
  };
}

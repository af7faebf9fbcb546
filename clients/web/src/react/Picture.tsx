import { useState } from "react";
import { safeLink } from "../link.js";
import type { Notification } from "../notification.js";
import { initialsOf } from "./initials.js";

/** The image of a notification; where there is none, or it does not come, initials. */
export function Picture({ notification: { imageUrl, title } }: { readonly notification: Notification }) {
  const [failed, setFailed] = useState<string>();
  const src = safeLink(imageUrl);
  return src !== undefined && src !== failed ? (
    <img
      className="doorbell-image"
      src={src}
      alt=""
      loading="lazy"
      decoding="async"
      draggable={false}
      onError={() => setFailed(src)}
    />
  ) : (
    <span className="doorbell-image" aria-hidden="true">
      {initialsOf(title)}
    </span>
  );
}

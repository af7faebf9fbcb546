// What the sections share: the desk, and whose inbox is looked at. It is kept in memory and
// in no address, so that no history names a person.

import { createContext, useContext } from "react";
import type { Desk } from "./desk.js";

export interface Shared {
  readonly desk: Desk;
  readonly organization: string;
  readonly user: string;
  readonly setUser: (user: string) => void;
}

export const SharedContext = createContext<Shared | undefined>(undefined);

export function useShared(): Shared {
  const shared = useContext(SharedContext);
  if (!shared) throw new Error("nobody is signed in");
  return shared;
}

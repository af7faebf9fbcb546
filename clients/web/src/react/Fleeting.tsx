import { useLayoutEffect, useRef, type ComponentProps } from "react";

/** A button that may go while it has the focus: its item then has it, or the list.
 * Without the focus inside, the keys of the list would do nothing. */
export function Fleeting(props: ComponentProps<"button">) {
  const ref = useRef<HTMLButtonElement>(null);
  useLayoutEffect(() => {
    const button = ref.current;
    return () => {
      if (!button?.matches(":focus")) return;
      const item = button.parentElement?.querySelector<HTMLElement>(".doorbell-open");
      (item ?? button.closest<HTMLElement>(".doorbell-panel"))?.focus();
    };
  }, []);
  return <button {...props} ref={ref} type="button" />;
}

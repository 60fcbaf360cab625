import type { Attachment } from "svelte/attachments";

/**
 * Makes the buttons of a grid one tab stop: arrows, Home and End move the
 * focus among them (WAI-ARIA Authoring Practices, "Grid").
 */
export function roving(columns: number): Attachment<HTMLElement> {
  return (grid) => {
    const buttons = (): HTMLButtonElement[] => [...grid.querySelectorAll("button")];
    const makeStop = (stop: EventTarget | undefined): void => {
      for (const button of buttons()) button.tabIndex = button === stop ? 0 : -1;
    };
    makeStop(buttons()[0]);

    const focused = (event: FocusEvent): void => makeStop(event.target ?? undefined);
    const pressed = (event: KeyboardEvent): void => {
      const all = buttons();
      const at = all.indexOf(document.activeElement as HTMLButtonElement);
      if (at < 0) return;
      const steps: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -at, End: all.length - 1 - at };
      const step = steps[event.key];
      if (step === undefined) return;
      event.preventDefault();
      all[at + step]?.focus();
    };
    grid.addEventListener("focusin", focused);
    grid.addEventListener("keydown", pressed);
    return () => {
      grid.removeEventListener("focusin", focused);
      grid.removeEventListener("keydown", pressed);
    };
  };
}

/** Focuses the first button of an element once it is there. */
export const focusFirst: Attachment<HTMLElement> = (element) => {
  element.querySelector<HTMLElement>("button:not(:disabled)")?.focus({ preventScroll: true });
};

type Listener<T> = (event: T) => void;

/** Events by name, each with a type of its own. */
export class Emitter<Events> {
  readonly #listeners = new Map<keyof Events, Set<Listener<never>>>();

  /**
   * Calls a listener for every event of a name, until the returned function is
   * called or the signal aborts. A listener that throws keeps nobody else from
   * hearing: its error is thrown again when all have heard.
   */
  on<K extends keyof Events>(name: K, listener: Listener<Events[K]>, options: { signal?: AbortSignal } = {}): () => void {
    const off = (): void => void this.#listeners.get(name)?.delete(listener);
    if (options.signal?.aborted) return off;
    let set = this.#listeners.get(name);
    if (!set) this.#listeners.set(name, (set = new Set()));
    set.add(listener);
    options.signal?.addEventListener("abort", off, { once: true });
    return off;
  }

  protected emit<K extends keyof Events>(name: K, event: Events[K]): void {
    const errors: unknown[] = [];
    for (const listener of [...(this.#listeners.get(name) ?? [])] as Listener<Events[K]>[]) {
      try {
        listener(event);
      } catch (error) {
        errors.push(error);
      }
    }
    // Not from here: what follows an event must not depend on who listens.
    for (const error of errors) queueMicrotask(() => { throw error; });
  }
}

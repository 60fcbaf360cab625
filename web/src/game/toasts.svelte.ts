export interface Toast {
  id: number;
  tone: "won" | "lost" | "plain";
  who?: string; // a player's name, which the title goes on from; it may run from right to left
  title: string;
  detail?: string;
}

const shownMs = 6_000;

/** Short messages that go by themselves. */
export class Toasts {
  list = $state<Toast[]>([]);
  #count = 0;

  show(tone: Toast["tone"], title: string, detail?: string, who?: string): void {
    const id = ++this.#count;
    this.list = [...this.list.slice(-2), { id, tone, title, ...(detail !== undefined && { detail }), ...(who !== undefined && { who }) }];
    setTimeout(() => this.dismiss(id), shownMs);
  }

  dismiss(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }
}

export interface Toast {
  id: number;
  tone: "won" | "lost" | "plain";
  title: string;
  detail?: string;
}

const shownMs = 6_000;

/** Short messages that go by themselves. */
export class Toasts {
  list = $state<Toast[]>([]);
  #count = 0;

  show(tone: Toast["tone"], title: string, detail?: string): void {
    const id = ++this.#count;
    this.list = [...this.list.slice(-2), { id, tone, title, ...(detail !== undefined && { detail }) }];
    setTimeout(() => this.dismiss(id), shownMs);
  }

  dismiss(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }
}

// The lineage as rows: the champion's line runs straight down, with attempts on each experiment beside it.

import { STATUS } from "./store.js";

export const DEEPEST = 7; // lanes that are drawn beside each other

/**
 * Rows from the root on. Each is an experiment `n`, or the `group` of all that was tried on it and came to nothing.
 * `rails` says what to draw in each lane before it ("through", "fork", "end" or nothing), `up` and `down` whether its
 * own lane comes from above and goes on below.
 */
export class Tree {
  constructor(store) {
    this.store = store;
    this.open = new Set(); // experiments whose failures are shown one by one
    this.shut = new Set(); // experiments whose descendants are hidden
  }

  /** The children of all experiments, as lists in two arrays: the first child, and the next sibling. */
  grow() {
    const { size, parent, status, metric, bar } = this.store;
    this.first = new Int32Array(size).fill(-1);
    this.next = new Int32Array(size).fill(-1);
    this.below = new Uint32Array(size); // descendants
    this.matches = new Uint32Array(size); // those of them, and itself, that the filter lets through
    for (let n = size - 1; n >= 0; n--) {
      this.matches[n] += this.store.shown[n];
      const p = parent[n];
      if (p < 0) continue;
      this.next[n] = this.first[p];
      this.first[p] = n;
      this.below[p] += this.below[n] + 1;
      this.matches[p] += this.matches[n];
    }
    this.line = new Uint8Array(size); // the champion and its ancestors
    let best = -1;
    for (let n = 0; n < size; n++) {
      if (status[n] === STATUS.keep && (best < 0 || this.store.judged_at[n] >= this.store.judged_at[best])) best = n;
    }
    for (let n = best; n >= 0; n = parent[n]) this.line[n] = 1;
  }

  /** Whether an experiment has its own row, or is grouped with failed attempts. */
  matters(n) {
    return this.below[n] > 0 || this.store.status[n] === STATUS.keep || this.store.status[n] === STATUS.running;
  }

  rows() {
    this.grow();
    const { store } = this;
    const found = [];
    const strict = store.filtering;
    const roots = [];
    for (let n = 0; n < store.size; n++) if (store.parent[n] < 0 && (!strict || this.matches[n])) roots.push(n);
    // A stack instead of recursion: a lineage may be thousands of keeps deep. The last one pushed comes first.
    const stack = roots.reverse().map((n) => ({ n, rails: [], prefix: [], depth: 1 }));
    while (stack.length) {
      const { n, group, rails, prefix, depth, up } = stack.pop();
      if (group) {
        const isOpen = this.open.has(n) || strict;
        found.push({ key: `g${n}`, n, group, rails, depth, isOpen, down: isOpen });
        if (isOpen) group.forEach((one, at) => found.push({ key: `n${one}`, n: one, rails: fork(prefix, at === group.length - 1), depth: depth + 1 }));
        continue;
      }
      const children = [];
      for (let c = this.first[n]; c >= 0; c = this.next[c]) if (!strict || this.matches[c]) children.push(c);
      const isOpen = children.length ? !this.shut.has(n) : undefined;
      found.push({ key: `n${n}`, n, rails, depth, isOpen, up, down: isOpen });
      if (!isOpen) continue;
      const leaves = children.filter((c) => !this.matters(c));
      const sides = children.filter((c) => this.matters(c));
      const straight = this.straight(sides);
      if (straight !== undefined) stack.push({ n: straight, rails: prefix, prefix, depth: depth + 1, up: true });
      const beside = sides.filter((c) => c !== straight).map((c) => ({ n: c }));
      if (leaves.length) beside.unshift({ n, group: leaves });
      beside.reverse().forEach((one, at) => {
        const last = at === 0 && straight === undefined;
        stack.push({ ...one, rails: fork(prefix, last), prefix: [...prefix, last ? "" : "through"], depth: depth + 1 });
      });
    }
    return found;
  }

  /** The child that continues the line: towards the champion, else the one with most descendants. */
  straight(sides) {
    return sides.reduce((best, c) => (best === undefined || this.line[c] > this.line[best]
      || (this.line[c] === this.line[best] && this.below[c] > this.below[best]) ? c : best), undefined);
  }

  /** Make an experiment's row visible. */
  reveal(n) {
    const { store } = this;
    if (!this.matters(n) && store.parent[n] >= 0) this.open.add(store.parent[n]);
    for (let p = store.parent[n]; p >= 0; p = store.parent[p]) this.shut.delete(p);
  }

  toggle(row, open) {
    if (row.group) open ? this.open.add(row.n) : this.open.delete(row.n);
    else open ? this.shut.delete(row.n) : this.shut.add(row.n);
  }
}

const fork = (prefix, last) => [...prefix, last ? "end" : "fork"];

// The experiments as rows, created only while visible: the lineage as a tree, or the log as a grid.

import { by, count, el, inFrame, number, signed } from "./dom.js";
import { VERDICTS } from "./store.js";
import { DEEPEST, Tree } from "./tree.js";

const SPARE = 8; // rows above and below what is seen
const SIGNS = { 0: "●", 1: "·", 2: "×", "-1": "◌" };

export class List {
  constructor(store, compare) {
    this.store = store;
    this.later = inFrame(() => this.renew());
    this.compare = compare;
    this.tree = new Tree(store);
    this.arranged = "tree";
    this.rows = [];
    this.current = null; // the key of the row that the keyboard is at
    this.inner = el("div", { class: "inner" });
    this.box = by("rows");
    this.box.append(this.inner);
    this.box.tabIndex = 0;
    for (const event of ["points", "filter", "words"]) store.addEventListener(event, () => this.later());
    store.addEventListener("select", () => (store.from === "fresh" ? this.draw() : this.follow()));
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.box);
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("click", (event) => this.click(event));
    by("as-tree").addEventListener("click", () => this.arrange("tree"));
    by("as-list").addEventListener("click", () => this.arrange("list"));
    this.arrange("tree");
  }

  arrange(how) {
    this.arranged = how;
    by("as-tree").setAttribute("aria-pressed", how === "tree");
    by("as-list").setAttribute("aria-pressed", how === "list");
    const of = this.box;
    of.className = how;
    of.setAttribute("role", how === "tree" ? "tree" : "grid");
    of.setAttribute("aria-label", how === "tree" ? "Lineage: experiments by parent" : "Log: latest first");
    this.build();
    this.follow();
  }

  /** Rebuild the rows and keep the scroll position. */
  renew() {
    const [tall, top] = [this.tall, this.box.scrollTop];
    const seen = Math.floor(top / tall);
    const key = top > 0 ? this.rows[seen]?.key : null;
    this.build();
    const now = key ? this.place(key) : -1;
    this.inner.style.height = `${this.rows.length * tall}px`;
    if (now >= 0 && now !== seen) this.box.scrollTop = top + (now - seen) * tall;
    this.draw();
  }

  build() {
    const { store } = this;
    if (this.arranged === "tree") this.rows = this.tree.rows();
    else {
      this.rows = [];
      for (let n = store.size - 1; n >= 0; n--) if (store.shown[n]) this.rows.push({ key: `n${n}`, n });
    }
    this.places = null;
    if (this.arranged === "list") this.box.setAttribute("aria-rowcount", this.rows.length);
    else this.box.removeAttribute("aria-rowcount");
    by("count").textContent = store.filtering ? `${store.matched.toLocaleString("en")} of ${count(store.size, "experiment")}` : count(store.size, "experiment");
  }

  /** The position of the row with this key. */
  place(key) {
    this.places ??= new Map(this.rows.map((row, at) => [row.key, at]));
    return this.places.get(key) ?? -1;
  }

  get tall() {
    return parseFloat(getComputedStyle(this.box).getPropertyValue("--row")) || 34;
  }

  draw() {
    const tall = this.tall;
    const from = Math.max(0, Math.floor(this.box.scrollTop / tall) - SPARE);
    const to = Math.min(this.rows.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / tall) + SPARE);
    this.inner.style.height = `${this.rows.length * tall}px`;
    const old = new Map([...this.inner.children].map((row) => [row.id, row]));
    const fresh = [];
    for (let at = from; at < to; at++) {
      const row = this.row(this.rows[at], at);
      row.style.top = `${at * tall}px`;
      const before = old.get(row.id);
      fresh.push(before?.isEqualNode(row) ? before : row);
    }
    if (!fresh.length && this.store.size) fresh.push(el("p", { class: "quiet none" }, "No matches."));
    if (!this.store.size) fresh.push(el("p", { class: "quiet none" }, "No experiment yet: the baseline runs first."));
    const same = fresh.length === this.inner.children.length && fresh.every((row, at) => row === this.inner.children[at]);
    if (!same) this.inner.replaceChildren(...fresh);
    const active = this.current && by(`row-${this.current}`);
    if (active) this.box.setAttribute("aria-activedescendant", active.id);
    else this.box.removeAttribute("aria-activedescendant");
  }

  row(row, at) {
    const { store } = this;
    const tree = this.arranged === "tree";
    const chosen = !row.group && (row.n === store.selected || row.n === store.other);
    const props = {
      id: `row-${row.key}`,
      role: tree ? "treeitem" : "row",
      class: `row ${row.group ? "group" : VERDICTS[store.status[row.n]]}${chosen ? " chosen" : ""}${row.key === this.current ? " current" : ""}${!row.group && !store.shown[row.n] ? " dim" : ""}`,
      "aria-selected": chosen ? "true" : "false",
      "data-at": at,
      ...(tree ? { "aria-level": row.depth, "aria-expanded": row.isOpen === undefined ? undefined : String(row.isOpen) } : { "aria-rowindex": at + 1 }),
    };
    if (row.group) return el("div", { ...props, "aria-label": this.summary(row.group) }, this.rails(row), el("span", { class: "words" }, this.summary(row.group)));
    const cell = (name, ...inside) => el("span", { class: name, role: tree ? undefined : "gridcell" }, ...inside);
    const gain = store.gain(row.n);
    const sigmas = store.sigmas(row.n);
    const level = store.level(row.n);
    const reason = store.reasons[store.reason[row.n]];
    const verdict = VERDICTS[store.status[row.n]];
    return el("div", { ...props, "aria-label": tree ? store.sentence(row.n) : undefined },
      tree ? this.rails(row) : cell("sign", SIGNS[store.status[row.n]]),
      cell("n", `#${row.n}`),
      cell("verdict", level || (verdict === "discard" && reason ? reason : verdict)),
      cell("metric", number(store.metric[row.n])),
      cell("gain", Number.isNaN(gain) ? "" : signed(gain, 5), Number.isNaN(sigmas) ? "" : el("small", {}, ` ${signed(sigmas, 1)}σ`)),
      cell("who", store.proposers[store.proposer[row.n]]),
      cell("words", store.elsewhere(row.n) ? el("span", { class: "quiet" }, `on #${store.parent[row.n]}: `) : "", store.words(row.n)));
  }

  rails(row) {
    const seen = row.rails.slice(-DEEPEST);
    const own = `dot${row.up ? " up" : ""}${row.down ? " down" : ""}${row.group ? " many" : ""}`;
    return el("span", { class: "rails", "aria-hidden": "true" },
      ...seen.map((rail) => el("i", { class: rail || "gap" })), el("i", { class: own }, row.group ? (row.isOpen ? "▾" : "▸") : SIGNS[this.store.status[row.n]]));
  }

  summary(group) {
    const many = [0, 0, 0];
    for (const n of group) many[this.store.status[n]]++;
    const words = [many[1] && `${many[1].toLocaleString("en")} discarded`, many[2] && `${many[2].toLocaleString("en")} crashed`].filter(Boolean);
    return `${group.length.toLocaleString("en")} tried here: ${words.join(", ")}`;
  }

  // -- interaction ---------------------------------------------------------------------------------

  /** Scroll to the selected experiment. */
  follow() {
    const n = this.store.selected;
    if (n !== null) {
      this.current = `n${n}`;
      if (this.arranged === "tree") this.tree.reveal(n);
      this.build();
      this.show(this.place(this.current));
    }
    this.draw();
  }

  show(at) {
    if (at < 0) return;
    const tall = this.tall;
    const { scrollTop, clientHeight } = this.box;
    if (at * tall < scrollTop) this.box.scrollTop = at * tall - tall;
    else if ((at + 1) * tall > scrollTop + clientHeight) this.box.scrollTop = (at + 2) * tall - clientHeight;
  }

  go(at) {
    const row = this.rows[Math.max(0, Math.min(at, this.rows.length - 1))];
    if (!row) return;
    this.current = row.key;
    this.show(this.place(row.key));
    this.draw();
  }

  fold(row, open) {
    this.tree.toggle(row, open);
    this.build();
    this.draw();
  }

  click(event) {
    const row = this.rows[event.target.closest(".row")?.dataset.at];
    if (!row) return;
    this.current = row.key;
    if (row.group) this.fold(row, !row.isOpen);
    else if (event.target.closest(".dot") && row.isOpen !== undefined) this.fold(row, !row.isOpen);
    else if (event.shiftKey) this.compare(row.n);
    else this.store.select(row.n, "list");
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.place(this.current);
    const row = this.rows[at];
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.tall) - 1);
    const inward = () => (row?.isOpen === false ? this.fold(row, true) : this.go(at + 1));
    const outward = () => {
      if (row?.isOpen && (row.group || !this.store.filtering)) return this.fold(row, false);
      const up = row ? this.rows.findLastIndex((one, place) => place < at && one.depth < row.depth) : -1;
      return up >= 0 ? this.go(up) : undefined;
    };
    const does = {
      ArrowDown: () => this.go(at + 1), ArrowUp: () => this.go(Math.max(at - 1, 0)),
      PageDown: () => this.go(at + page), PageUp: () => this.go(at - page), Home: () => this.go(0), End: () => this.go(this.rows.length - 1),
      ArrowRight: this.arranged === "tree" && inward, ArrowLeft: this.arranged === "tree" && outward,
      Enter: () => row && (row.group ? this.fold(row, !row.isOpen) : this.store.select(row.n, "keys")),
      " ": () => row && (row.group ? this.fold(row, !row.isOpen) : this.store.select(row.n, "keys")),
      c: () => row && !row.group && this.compare(row.n),
    }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  }
}

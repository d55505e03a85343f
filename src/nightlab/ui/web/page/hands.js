// Interaction with the chart: hover, zoom, pan and keyboard.

import { by, el, number, signed } from "./dom.js";
import { cut } from "./pen.js";
import { STATUS, VERDICTS } from "./store.js";

const REACH = 20; // pixels around the pointer in which a point is meant

export class Hands {
  constructor(chart) {
    this.chart = chart;
    this.gripped = false;
    chart.box.addEventListener("pointermove", (event) => this.point(event));
    chart.box.addEventListener("pointerleave", () => this.point(null));
    chart.box.addEventListener("pointerdown", (event) => this.grip(event));
    chart.box.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    chart.box.addEventListener("keydown", (event) => this.key(event));
    by("nearer").addEventListener("click", () => this.zoom(0.5));
    by("farther").addEventListener("click", () => this.zoom(2));
    by("whole").addEventListener("click", () => chart.see(null));
  }

  zoom(factor, around = (this.chart.span[0] + this.chart.span[1]) / 2) {
    const [from, to] = this.chart.span;
    if (factor < 1 && to - from < 8) return;
    this.chart.see([around - (around - from) * factor, around + (to - around) * factor]);
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey && document.activeElement !== this.chart.box) return; // the page scrolls
    event.preventDefault();
    this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.chart.at(event.offsetX));
  }

  nearest(event) {
    const { store } = this.chart;
    const area = this.chart.box.getBoundingClientRect();
    const [x, y] = [event.clientX - area.left, event.clientY - area.top];
    const reach = Math.abs(this.chart.at(x + REACH) - this.chart.at(x));
    let [best, least] = [null, REACH ** 2];
    for (let n = Math.max(0, Math.ceil(this.chart.at(x) - reach)); n <= Math.min(store.size - 1, this.chart.at(x) + reach); n++) {
      if (!store.shown[n] || store.status[n] === STATUS.running) continue;
      const value = store.status[n] === STATUS.keep ? store.value(n) : store.metric[n];
      const away = (this.chart.x(n) - x) ** 2 + ((Number.isNaN(value) ? this.chart.edge.top : this.chart.y(value)) - y) ** 2;
      const weight = store.status[n] === STATUS.keep ? 0.4 : 1; // what was kept is easier to hit
      if (away * weight < least) [best, least] = [n, away * weight];
    }
    return best;
  }

  point(event) {
    if (this.gripped) return;
    const n = event && this.chart.paint ? this.nearest(event) : null;
    if (n === this.chart.pointed) return;
    this.chart.pointed = n;
    this.chart.mark();
    const tip = by("tip");
    tip.hidden = n === null;
    if (n === null) return;
    const { store } = this.chart;
    const gain = store.gain(n);
    tip.replaceChildren(
      el("b", {}, `#${n} ${VERDICTS[store.status[n]]} `),
      el("span", {}, number(store.metric[n])),
      Number.isNaN(gain) ? "" : el("span", { class: gain > 0 ? "good" : "" }, ` ${signed(gain)}`),
      el("em", {}, cut(store.words(n), 90)),
    );
    tip.classList.toggle("left", this.chart.x(n) > this.chart.width / 2);
    tip.style.left = `${this.chart.x(n)}px`;
  }

  grip(event) {
    const [at, span] = [event.clientX, [...this.chart.span]];
    const width = this.chart.width - this.chart.edge.left - this.chart.edge.right;
    const move = (now) => {
      if (!this.chart.range || Math.abs(now.clientX - at) < 4) return;
      this.gripped = true;
      const by = Math.max(-0.5 - span[0], ((at - now.clientX) / width) * (span[1] - span[0]));
      this.chart.see([span[0] + by, span[1] + by]);
    };
    const stop = (now) => {
      removeEventListener("pointermove", move);
      if (!this.gripped) {
        const n = this.nearest(now);
        if (n !== null) this.chart.store.select(n, "chart");
      }
      this.gripped = false;
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", stop, { once: true });
  }

  key(event) {
    const { store } = this.chart;
    const walk = (step) => {
      let n = store.selected ?? (step > 0 ? -1 : store.size);
      do n += step; while (n >= 0 && n < store.size && !store.shown[n]);
      store.select(n, "chart");
      const [from, to] = this.chart.span;
      if (this.chart.range && (n < from || n > to)) this.chart.see([n - (to - from) / 2, n + (to - from) / 2]);
    };
    const does = {
      ArrowRight: () => walk(1), ArrowLeft: () => walk(-1), ArrowUp: () => walk(1), ArrowDown: () => walk(-1),
      PageUp: () => walk(10), PageDown: () => walk(-10), Home: () => store.select(0, "chart"), End: () => store.select(store.size - 1, "chart"),
      "+": () => this.zoom(0.5, store.selected ?? undefined), "=": () => this.zoom(0.5, store.selected ?? undefined),
      "-": () => this.zoom(2), 0: () => this.chart.see(null),
    }[event.key];
    if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    does();
  }
}

// The staircase: every experiment a point, kept ones in green with label, noise and evidence.

import { by, colours, inFrame } from "./dom.js";
import { Hands } from "./hands.js";
import { cross, cut, dot, fitted, line, ring, ticks } from "./pen.js";
import { STATUS } from "./store.js";

const EDGE = { right: 18, top: 18, bottom: 30 };
const NARROW = { right: 10, top: 14, bottom: 28 };
const GUTTER = 12; // pixels beside the numbers at the left
const FONT = "12px system-ui, sans-serif";
const LABEL = 42; // characters of a kept change's label
const TILT = -Math.PI / 7;
const LINE = 13; // pixels between two labels
const LABELS = 24; // of them at most, however many are tried
const TRIED = 500;
const READABLE = 150; // pixels of words that are worth the place after the point
const SMALL = 1.2; // radius of a point among thousands

export class Chart {
  constructor(store) {
    this.store = store;
    this.later = inFrame(() => this.draw());
    this.box = by("chart");
    [this.back, this.front] = this.box.querySelectorAll("canvas");
    this.range = null; // the experiments that are seen; all of them if null
    this.pointed = null;
    for (const event of ["points", "picture", "filter", "words"]) store.addEventListener(event, () => this.later());
    store.addEventListener("select", () => this.mark());
    new ResizeObserver(() => this.later()).observe(this.box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.later());
    new Hands(this);
  }

  // -- scales --------------------------------------------------------------------------------------

  get span() {
    return this.range ?? [-0.5, Math.max(this.store.size - 0.5, 9.5)];
  }

  measure() {
    const { width, height } = this.box.getBoundingClientRect();
    const dense = devicePixelRatio || 1;
    for (const canvas of [this.back, this.front]) {
      if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
        [canvas.width, canvas.height] = [Math.round(width * dense), Math.round(height * dense)];
      }
      canvas.getContext("2d").setTransform(dense, 0, 0, dense, 0, 0);
    }
    [this.width, this.height] = [width, height];
    this.steps = this.store.keeps().filter((n) => !Number.isNaN(this.store.value(n)));
    this.domain = this.values();
    this.levels = ticks(...this.domain, Math.max(2, Math.floor(height / 70)));
    const digits = Math.max(0, Math.min(8, -Math.floor(Math.log10(this.levels[1] - this.levels[0] || 1))));
    this.labels = this.levels.map((value) => value.toFixed(digits).replace("-", "−"));
    const pen = this.back.getContext("2d");
    pen.font = FONT;
    this.edge = { ...(width < 520 ? NARROW : EDGE), left: GUTTER + Math.max(0, ...this.labels.map((label) => pen.measureText(label).width)) };
  }

  /** The visible range: from the worst kept value to the best, with margins; others are drawn at the edge. */
  values() {
    const { store } = this;
    const [from, to] = this.span;
    const seen = this.steps.filter((n) => n <= to && n >= from);
    const last = this.steps.findLast((n) => n < from);
    const kept = (last === undefined ? seen : [last, ...seen]).map((n) => store.value(n));
    if (!kept.length) for (let n = Math.max(0, Math.ceil(from)); n <= to && n < store.size; n++) if (!Number.isNaN(store.metric[n])) kept.push(store.metric[n]);
    if (!kept.length) return [0, 1];
    const [low, high] = [Math.min(...kept), Math.max(...kept)];
    const room = Math.max((high - low) * 0.35, 6 * (store.picture.sigma || 0), Math.abs(high) * 0.002, 1e-12);
    return this.store.maximise ? [low - 1.3 * room, high + 0.7 * room] : [low - 0.7 * room, high + 1.3 * room];
  }

  /** Show a range of experiments, or all of them. */
  see(range) {
    const last = Math.max(this.store.size - 0.5, 9.5);
    const whole = range && range[1] - range[0] >= last + 0.5;
    this.range = !range || whole ? null : [Math.max(-0.5, range[0]), Math.min(last, range[1])];
    this.later();
  }

  x(n) {
    const [from, to] = this.span;
    return this.edge.left + ((n - from) / (to - from)) * (this.width - this.edge.left - this.edge.right);
  }

  y(value) {
    const [low, high] = this.domain;
    const { top, bottom } = this.edge;
    const place = this.height - bottom - ((value - low) / (high - low)) * (this.height - top - bottom);
    return Math.min(Math.max(place, top), this.height - bottom);
  }

  at(x) {
    const [from, to] = this.span;
    return from + ((x - this.edge.left) / (this.width - this.edge.left - this.edge.right)) * (to - from);
  }

  // -- drawing -------------------------------------------------------------------------------------

  draw() {
    this.measure();
    if (!this.width) return;
    this.paint = colours("ink", "quiet", "line", "keep", "point", "crash", "accent", "card", "claim");
    const pen = this.back.getContext("2d");
    pen.clearRect(0, 0, this.width, this.height);
    pen.font = FONT;
    this.axes(pen);
    this.points(pen);
    this.stairs(pen);
    this.mark();
    this.describe();
  }

  axes(pen) {
    const { left, right, top, bottom } = this.edge;
    pen.lineWidth = 1;
    pen.fillStyle = this.paint.quiet;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const [at, value] of this.levels.entries()) {
      line(pen, this.paint.line, [left, this.y(value)], [this.width - right, this.y(value)]);
      pen.fillText(this.labels[at], left - 8, this.y(value));
    }
    pen.textAlign = "center";
    pen.textBaseline = "alphabetic";
    const [from, to] = this.span;
    for (const n of ticks(Math.max(0, from), Math.min(to, Math.max(this.store.size - 1, 9)), Math.max(3, Math.floor(this.width / 110)))) {
      if (Number.isInteger(n)) pen.fillText(n.toLocaleString("en"), this.x(n), this.height - 9);
    }
    line(pen, this.paint.line, [left, this.height - bottom], [this.width - right, this.height - bottom]);
  }

  points(pen) {
    const { store } = this;
    const from = Math.max(0, Math.floor(this.span[0]));
    const to = Math.min(store.size - 1, Math.ceil(this.span[1]));
    const room = (this.width - this.edge.left) / Math.max(to - from, 1);
    const radius = Math.min(3.2, Math.max(SMALL, room / 3));
    const crowded = to - from > 4000;
    const floor = store.maximise ? this.height - this.edge.bottom : this.edge.top;
    for (const [status, paint] of [[STATUS.discard, this.paint.point], [STATUS.crash, this.paint.crash]]) {
      for (const bright of [0, 1]) {
        pen.fillStyle = paint;
        pen.globalAlpha = (bright ? 1 : 0.14) * (crowded && status === STATUS.discard ? 0.55 : 1);
        pen.beginPath();
        for (let n = from; n <= to; n++) {
          if (store.status[n] !== status || store.shown[n] !== bright) continue;
          const [x, value] = [this.x(n), store.metric[n]];
          const y = Number.isNaN(value) ? floor : this.y(value);
          if (status === STATUS.crash) cross(pen, x, y, Math.max(radius, 1.6));
          else if (crowded) pen.rect(x - radius, y - radius, 2 * radius, 2 * radius);
          else dot(pen, x, y, radius);
        }
        pen.fill();
        if (room > 9 && status === STATUS.discard && bright) this.noise(pen, from, to);
      }
    }
    pen.globalAlpha = 1;
  }

  /** The seed-to-seed noise of one trial, where there is room to show it. */
  noise(pen, from, to) {
    const { store } = this;
    const sigma = store.picture.sigma || 0;
    pen.strokeStyle = this.paint.point;
    pen.lineWidth = 1;
    pen.beginPath();
    for (let n = from; sigma && n <= to; n++) {
      if (store.status[n] !== STATUS.discard || !store.shown[n] || Number.isNaN(store.metric[n])) continue;
      pen.moveTo(this.x(n), this.y(store.metric[n] - sigma));
      pen.lineTo(this.x(n), this.y(store.metric[n] + sigma));
    }
    pen.stroke();
  }

  stairs(pen) {
    const { store, steps } = this;
    if (!steps.length) return;
    pen.save();
    pen.beginPath();
    pen.rect(this.edge.left, 0, this.width - this.edge.left - this.edge.right + 6, this.height);
    pen.clip();
    pen.strokeStyle = this.paint.keep;
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(this.x(steps[0]), this.y(store.value(steps[0])));
    for (const [at, n] of steps.entries()) {
      if (at) pen.lineTo(this.x(n), this.y(store.value(steps[at - 1])));
      pen.lineTo(this.x(n), this.y(store.value(n)));
    }
    pen.lineTo(this.x(Math.max(store.size - 1, steps.at(-1))), this.y(store.value(steps.at(-1))));
    pen.stroke();
    const [from, to] = this.span;
    const seen = steps.filter((n) => n >= from - 1 && n <= to + 1);
    const sigma = store.picture.sigma || 0;
    for (const n of seen) {
      const [x, y] = [this.x(n), this.y(store.value(n))];
      pen.globalAlpha = store.shown[n] ? 1 : 0.25;
      if (sigma && seen.length < this.width / 8) {
        line(pen, this.paint.keep, [x, this.y(store.value(n) - sigma)], [x, this.y(store.value(n) + sigma)]);
      }
      this.evidence(pen, n, x);
      pen.fillStyle = this.paint.keep;
      pen.strokeStyle = this.paint.card;
      pen.lineWidth = 1.5;
      pen.beginPath();
      dot(pen, x, y, seen.length > this.width / 6 ? 2.5 : seen.length > this.width / 20 ? 3.3 : 4.5);
      pen.fill();
      pen.stroke();
      if (store.level(n)) ring(pen, this.paint.keep, x, y, 8);
    }
    pen.globalAlpha = 1;
    this.names(pen, seen);
    pen.restore();
  }

  /** The interval of a gain measured on fresh seeds, relative to the baseline. */
  evidence(pen, n, x) {
    const gain = this.store.interval(n);
    const baseline = this.store.value(0);
    if (!gain || Number.isNaN(baseline)) return;
    const sign = this.store.maximise ? 1 : -1;
    pen.lineWidth = 5;
    pen.globalAlpha = 0.45;
    line(pen, this.paint.accent, [x, this.y(baseline + sign * gain.low)], [x, this.y(baseline + sign * gain.high)]);
    pen.globalAlpha = 1;
    pen.lineWidth = 1;
  }

  /** The labels of kept experiments, largest steps first, as far as they don't overlap. */
  names(pen, seen) {
    const { store } = this;
    const tilt = store.maximise ? -TILT : TILT;
    const before = new Map(this.steps.map((n, at) => [n, this.steps[Math.max(at - 1, 0)]]));
    const size = (n) => Math.abs(store.value(n) - store.value(before.get(n)));
    const stood = [];
    pen.fillStyle = this.paint.keep;
    pen.font = `${this.width < 520 ? 11 : 12}px system-ui, sans-serif`;
    const largest = seen.filter((n) => n > 0).sort((one, other) => size(other) - size(one));
    for (const n of largest.slice(0, TRIED)) {
      if (stood.length === LABELS) break;
      // To the right of the point and above the line; at the right edge, to the left and below.
      const [at, height] = [this.x(n), this.y(store.value(n))];
      const roomAfter = Math.min((this.width - this.edge.right - at - 9) / Math.cos(tilt), (store.maximise ? this.height - height : height) / Math.sin(Math.abs(tilt)) - 24);
      const roomBefore = Math.min((at - this.edge.left - 18) / Math.cos(tilt), (store.maximise ? height : this.height - this.edge.bottom - height) / Math.sin(Math.abs(tilt)) - 24);
      const after = roomAfter >= Math.min(roomBefore, READABLE);
      const words = fitted(pen, cut(store.words(n), LABEL), after ? roomAfter : roomBefore);
      if (!words) continue;
      const long = pen.measureText(words).width;
      const away = (store.maximise ? 9 : -9) * (after ? 1 : -1.6);
      const [x, y] = [at + (after ? 7 : -7), height + away];
      const across = y * Math.cos(tilt) - x * Math.sin(tilt);
      const along = x * Math.cos(tilt) + y * Math.sin(tilt) - (after ? 0 : long);
      if (stood.some((one) => Math.abs(one.across - across) < LINE && along < one.end + 8 && along + long + 8 > one.along)) continue;
      stood.push({ across, along, end: along + long });
      pen.save();
      pen.translate(x, y);
      pen.rotate(tilt);
      pen.globalAlpha = store.shown[n] ? 1 : 0.3;
      pen.textAlign = after ? "left" : "right";
      pen.fillText(words, 0, 0);
      pen.restore();
    }
  }

  /** The selected and the hovered experiment, on a separate canvas. */
  mark() {
    const pen = this.front.getContext("2d");
    pen.clearRect(0, 0, this.width, this.height);
    for (const n of new Set([this.store.selected, this.pointed])) {
      if (n === null || n === undefined || !this.paint || !(n < this.store.size)) continue;
      const value = this.store.status[n] === STATUS.keep ? this.store.value(n) : this.store.metric[n];
      const y = Number.isNaN(value) ? this.edge.top : this.y(value);
      line(pen, this.paint.accent, [this.x(n), this.edge.top], [this.x(n), this.height - this.edge.bottom]);
      ring(pen, this.paint.accent, this.x(n), y, 7);
    }
    if (this.store.selected !== null) this.describe();
  }

  /** The same for screen readers: a slider over the experiments. */
  describe() {
    const n = this.store.selected ?? Math.max(this.store.size - 1, 0);
    this.box.setAttribute("aria-valuemax", Math.max(this.store.size - 1, 0));
    this.box.setAttribute("aria-valuenow", n);
    this.box.setAttribute("aria-valuetext", this.store.size ? this.store.sentence(n) : "no experiment yet");
  }
}

// Training-loss curves as claimed by candidates, of one experiment or two.

import { el, number, svg } from "./dom.js";
import { ticks } from "./pen.js";

const [WIDE, HIGH] = [560, 200];
const EDGE = { left: 46, right: 10, top: 10, bottom: 22 };

/**
 * A figure of `lines`, each with its words, its class and its points as [share of the budget, loss].
 * The first tenth falls steeply and says little: the scale is of the rest.
 */
export function figure(lines, caption) {
  const drawn = lines.filter((line) => line.points.length > 1);
  if (!drawn.length) return null;
  const late = drawn.flatMap((line) => line.points.filter(([at], place) => at > 0.1 || place === line.points.length - 1).map((point) => point[1]));
  const [low, high] = [Math.min(...late), Math.max(...late)];
  const room = (high - low) * 0.08 || Math.abs(high) * 0.01 || 1;
  const x = (at) => EDGE.left + at * (WIDE - EDGE.left - EDGE.right);
  const y = (loss) => Math.max(EDGE.top, HIGH - EDGE.bottom - ((loss - low + room) / (high - low + 2 * room)) * (HIGH - EDGE.top - EDGE.bottom));
  const label = drawn.map((line) => `${line.words} ends at ${number(line.points.at(-1)[1], 4)}`).join(", ");
  const values = ticks(low, high, 6);
  const digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(values[1] - values[0] || 1))));
  return el("figure", { class: "curve" },
    svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": `Training loss over the budget: ${label}` },
      ...values.map((value) => svg("g", {}, svg("line", { class: "grid", x1: EDGE.left, x2: WIDE - EDGE.right, y1: y(value), y2: y(value) }),
        svg("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(digits)))),
      ...[0, 0.5, 1].map((at) => svg("text", { x: x(at), y: HIGH - 5, "text-anchor": at === 1 ? "end" : at ? "middle" : "start" }, `${at * 100} %`)),
      ...drawn.map((line) => svg("path", { class: line.kind, d: path(line.points, x, y) }))),
    el("figcaption", {}, ...drawn.map((line) => el("span", { class: `key ${line.kind}` }, `${line.words} `)), el("span", { class: "quiet" }, caption)));
}

/** Curves by name from zero, each of points [hours, gain]; each is named at its end. */
export function rising(curves, caption) {
  const drawn = Object.entries(curves).filter(([, points]) => points.length > 1);
  if (!drawn.length) return null;
  const [far, gains] = [Math.max(...drawn.map(([, points]) => points.at(-1)[0])), drawn.flatMap(([, points]) => points.map((point) => point[1]))];
  const [low, high] = [Math.min(...gains), Math.max(...gains)];
  const x = (at) => EDGE.left + (at / (far || 1)) * (WIDE - EDGE.left - 110);
  const y = (gain) => HIGH - EDGE.bottom - ((gain - low) / (high - low || 1)) * (HIGH - EDGE.top - EDGE.bottom);
  const label = drawn.map(([name, points]) => `${name} ends at ${number(points.at(-1)[1], 4)}`).join(", ");
  drawn.sort(([, one], [, other]) => other.at(-1)[1] - one.at(-1)[1]);
  let above = -Infinity; // names of curves that end close together stand below each other
  const beside = (points) => (above = Math.max(y(points.at(-1)[1]) + 4, above + 12));
  return el("figure", { class: "curve" },
    svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": `Gain over hours: ${label}` },
      ...[low, high].map((gain) => svg("g", {}, svg("line", { class: "grid", x1: EDGE.left, x2: WIDE - 110, y1: y(gain), y2: y(gain) }),
        svg("text", { x: EDGE.left - 6, y: y(gain) + 4, "text-anchor": "end" }, number(gain, 3)))),
      svg("text", { x: x(far), y: HIGH - 5, "text-anchor": "end" }, `${number(far, 3)} h`),
      ...drawn.map(([name, points]) => svg("g", {}, svg("path", { class: "arm", d: path(points, x, y) }),
        svg("text", { x: x(points.at(-1)[0]) + 6, y: beside(points) }, name)))),
    el("figcaption", { class: "quiet" }, caption));
}

/** A curve without axes, for a running trial. */
export function spark(points) {
  if (points.length < 2) return null;
  const losses = points.map((point) => point[1]);
  const [low, high] = [Math.min(...losses), Math.max(...losses)];
  const y = (loss) => 37 - ((loss - low) / (high - low || 1)) * 34;
  return svg("svg", { class: "spark", viewBox: "0 0 240 40", preserveAspectRatio: "none", role: "img", "aria-label": `training loss ${number(losses.at(-1), 4)}, claimed` },
    svg("path", { class: "own", d: path(points, (at) => at * 240, y) }));
}

const path = (points, x, y) => points.map(([at, loss], place) => `${place ? "L" : "M"}${x(at).toFixed(1)} ${y(loss).toFixed(1)}`).join("");

// The lab's studies: each arm's sessions, mean gain, rates and curve, and which arm is better than which.

import { ask } from "./ask.js";
import { rising } from "./curve.js";
import { by, count, el, number, put } from "./dom.js";

const PACE = 30_000; // milliseconds between two looks

export class Studies {
  constructor() {
    setInterval(() => document.hidden || this.look(), PACE);
    this.look();
  }

  async look() {
    const studies = await ask("/api/studies").catch(() => null);
    if (!studies) return;
    by("studies").hidden = !studies.length;
    put(by("studies-status"), ...studies.map(section));
  }
}

const section = (study) => el("section", {}, el("h3", { class: "small" }, study.name), table(study), ...study.pairs.map(words),
  rising(study.curves, "champion's gain as the search saw it, mean of the sessions, over hours of trials"),
  el("p", { class: "quiet" }, "All sessions: ", el("code", {}, study.page)));

function table(study) {
  const heads = ["arm", "sessions", "mean gain", "per hour of trials", "per US dollar", "found by no other"];
  return el("div", { class: "wide" }, el("table", {},
    el("caption", { class: "quiet" }, study.best ? `${study.best} is shown to be the best` : `no arm is shown to be the best so far, in at most ${count(study.rounds, "round")}`),
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...study.arms.map((arm) => el("tr", {}, el("th", { scope: "row" }, arm.name), el("td", {}, arm.sessions),
      el("td", {}, number(arm.gain)), el("td", {}, rate(arm.per_hour)), el("td", {}, rate(arm.per_dollar)),
      el("td", {}, arm.alone.join(", ") || "nothing"))))));
}

const rate = (one) => (one ? `${number(one.mean, 4)} (${number(one.low, 4)} to ${number(one.high, 4)})` : "–");

const words = (pair) =>
  el("p", { class: "quiet" }, `${pair.better} over ${pair.other}: ${number(pair.mean)} (${number(pair.low)} to ${number(pair.high)}), ${pair.words}`);

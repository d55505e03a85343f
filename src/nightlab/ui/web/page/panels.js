// The panels: headline, running trials, pace, noise, proposers, notes.

import { spark } from "./curve.js";
import { by, clock, count, el, inFrame, lasting, number, put, share } from "./dom.js";
import { evidence, facts } from "./detail.js";

const QUIET = 3; // seconds of a phase that are not worth telling
const SAID = 3; // alarms and troubles that are shown, the latest

export class Panels {
  constructor(store) {
    this.store = store;
    this.later = inFrame(() => this.draw());
    for (const event of ["picture", "points", "words"]) store.addEventListener(event, () => this.later());
    setInterval(() => this.now(), 1000);
  }

  draw() {
    const { picture, about } = this.store;
    if (!picture.about) return;
    by("lab").textContent = about.lab;
    by("tag").textContent = about.tag;
    const best = picture.champion;
    document.title = `${best ? `${number(best.bar ?? best.metric, 4)} · ` : ""}${about.lab} ${about.tag} · nightlab`;
    this.headline();
    this.state();
    this.legend();
    this.now();
    this.pace();
    this.noise();
    this.who();
    put(by("notes"), picture.notes?.length ? el("ul", { class: "said" }, ...picture.notes.map((words) => el("li", {}, words))) : el("p", { class: "quiet" }, "None yet."));
    const { platform, sealing, rule, begun } = about;
    by("about").textContent = `${platform} · ${sealing} · rule: ${rule} · begun ${clock(begun)}`;
  }

  headline() {
    const { store } = this;
    const { picture, about } = store;
    const best = picture.champion;
    const { name, goal, unit } = about.metric;
    if (!best) {
      put(by("headline"), el("p", { class: "big" }, "No number yet"), el("p", { class: "quiet" }, `${goal} ${name}: the baseline is measured first`));
      return;
    }
    const [value, first] = [best.bar ?? best.metric, store.size ? store.value(0) : NaN];
    const gain = store.maximise ? value - first : first - value;
    const interval = store.interval(best.number);
    const level = store.level(best.number);
    const claim = (store.evidence.get(best.number) ?? []).filter((one) => one.against === 0 && !one.what).at(-1);
    put(by("headline"),
      el("p", { class: "big" }, number(value), el("small", {}, ` ${name}${unit ? `, ${unit}` : ""}, ${goal === "minimise" ? "less" : "more"} is better`)),
      el("p", { class: "gain" },
        best.number === 0 ? "the baseline; nothing is better yet" : el("b", {}, `${number(gain, 5)} better `),
        best.number === 0 || Number.isNaN(first) ? "" : `than the baseline's ${number(first)}: ${share(Math.abs(gain / first) < 0.005 ? null : Math.abs(gain / first)).replace("–", "less than 1 %")}`),
      el("p", { class: "quiet" },
        level ? el("span", { class: "chip shown" }, level) : interval ? el("span", { class: "chip" }, "not shown") : best.number ? el("span", { class: "chip" }, "as the search sees it") : "",
        claim ? ` ${evidence(claim)}` : best.number ? " no result yet: nightlab confirm measures it on fresh seeds" : ""),
      el("p", {}, el("button", { type: "button", class: "plain", onclick: () => store.select(store.picture.champion.number, "list") }, `Champion: #${best.number}`), ` ${store.words(best.number)}`));
  }

  state() {
    const { picture } = this.store;
    const [kind, words] = picture.fault ? ["lost", "can't be read"] : !picture.alive ? (picture.stopped ? ["ended", `ended: ${picture.stopped}`] : picture.seq > 1 ? ["lost", "interrupted: no process is running it"] : ["ended", "not started"])
      : picture.paused ? ["paused", picture.running.length ? "pausing: running trials finish" : "paused"] : ["runs", "running"];
    const state = by("state");
    state.className = `state ${kind}`;
    if (state.textContent !== words) state.textContent = words;
    const { readOnly, asked } = this.store;
    const pause = by("pause");
    pause.hidden = Boolean(readOnly);
    pause.textContent = picture.paused ? "Resume" : "Pause";
    pause.dataset.order = picture.paused ? "resume" : "pause";
    pause.disabled = asked === pause.dataset.order && picture.alive;
    by("unpin").hidden = readOnly || picture.pinned === null || picture.pinned === undefined;
    by("unpin").textContent = `Unpin #${picture.pinned}`;
    by("note").hidden = Boolean(readOnly);
    const troubles = [picture.fault && `${picture.fault}${picture.mend ? `: ${picture.mend}` : ""}`, this.store.severed].filter(Boolean);
    by("trouble").hidden = !troubles.length;
    if (by("trouble").textContent !== troubles.join(" · ")) by("trouble").textContent = troubles.join(" · ");
  }

  legend() {
    const { tally } = this.store;
    const part = (kind, sign, words) => el("span", { class: `key ${kind}` }, el("i", { "aria-hidden": "true" }, sign), ` ${words} `);
    put(by("legend"), part("keep", "●", `${tally.keep} kept`), part("discard", "·", `${tally.discard.toLocaleString("en")} discarded`), part("crash", "×", `${tally.crash.toLocaleString("en")} crashed`),
      this.store.evidence.size ? part("claim", "▎", "gain on fresh seeds") : "");
  }

  /** Running trials, redrawn every second to update their times. */
  now() {
    const { picture } = this.store;
    if (!picture.about) return;
    const flights = picture.running ?? [];
    const silent = picture.alive ? (picture.paused ? "Paused: nothing new starts." : "Between two trials.") : "Nothing runs.";
    put(by("now"), ...(flights.length ? flights.map((flight) => this.flight(flight)) : [el("p", { class: "quiet" }, silent)]));
  }

  flight(flight) {
    const { store } = this;
    const spent = Math.max(0, Date.now() / 1000 - flight.since);
    const wall = flight.budget.clock === "wall";
    const claimed = flight.curve.at(-1)?.[0] ?? 0;
    const done = flight.phase !== "training" ? null : Math.min(1, wall ? spent / flight.budget.amount : claimed);
    const left = done === null ? null : wall ? flight.budget.amount - spent : claimed > 0 ? flight.left : null;
    const words = flight.purpose === "search" ? flight.hypothesis : `${flight.purpose}: ${flight.hypothesis || "the champion again"}`;
    return el("article", { class: "flight", "aria-label": `Experiment ${flight.experiment}` },
      el("p", { class: "top" }, el("button", { type: "button", class: "plain", onclick: () => store.select(flight.experiment, "list") }, `#${flight.experiment}`), ` ${flight.phase}`,
        el("span", { class: "left" }, left === null ? (spent > QUIET ? lasting(spent) : "") : `${lasting(left)} left`)),
      el("div", { class: `meter${done === null ? " unknown" : ""}`, role: "progressbar", "aria-label": `Training of experiment ${flight.experiment}`, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": done === null ? undefined : Math.round(done * 100) }, bar(done ?? 0)),
      el("p", { class: "words" }, words || "…", flight.proposer ? el("span", { class: "quiet" }, ` · ${flight.proposer}`) : ""),
      el("p", { class: "quiet" }, [`seed ${flight.seed}`, flight.slot !== null && `slot ${flight.slot}`, ...flight.changes.filter((change) => !flight.hypothesis.includes(change))].filter(Boolean).join(" · ")),
      spark(flight.curve), flight.curve.length > 1 ? el("p", { class: "quiet" }, `loss ${number(flight.curve.at(-1)[1], 4)}, claimed`) : "");
  }

  pace() {
    const { picture } = this.store;
    const rows = [
      ["duty cycle", `${share(picture.duty)} of this run was training, ${share(picture.duty_hour)} of the last hour`],
      ["rate", picture.rate ? `${number(picture.rate, 2)} experiments an hour` : "not known yet"],
    ];
    const left = picture.alive && picture.left !== null && picture.left !== undefined ? picture.left : null;
    if (left !== null) rows.push(["ends", `in ${lasting(left)}, about ${clock(Date.now() / 1000 + left)}`]);
    if (picture.spent?.tokens || picture.spent?.money) rows.push(["spent", `${picture.spent.tokens.toLocaleString("en")} tokens, $${picture.spent.money.toFixed(2)}${picture.spent.unpriced ? ` (${picture.spent.unpriced} of ${picture.spent.turns} turns did not say)` : ""}`]);
    if (picture.free_mb) rows.push(["disk", `${number(picture.free_mb / 1024, 2)} GB free`]);
    if (picture.last_event_at) rows.push(["last news", clock(picture.last_event_at)]);
    put(by("pace"), facts(rows), ...(picture.rules ?? []).map((rule) => el("div", { class: "rule" }, el("p", {}, rule.words),
      el("div", { class: "meter", role: "progressbar", "aria-label": `Stop rule: ${rule.name}`, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(rule.share * 100) }, bar(rule.share)))));
  }

  noise() {
    const { picture } = this.store;
    const { self_tests: asked = 0, self_kept: kept = 0, looks = 0, parted = 0 } = picture;
    const rows = [
      ["one trial's noise", picture.sigma ? `±${number(picture.sigma)}, ${picture.replicates ? `from ${count(picture.replicates, "repeat")}` : "assumed: no repeated runs yet"}` : "not known yet"],
      ["self-tests", asked ? `an unchanged champion was tried ${asked === 1 ? "once" : `${asked} times`}; the rule would have kept ${kept === 0 ? "none" : kept}` : "none yet"],
    ];
    if (looks) rows.push(["held-out data", `${count(looks, "look")}; ${parted ? `${parted} parted from the search's number` : "agrees with the search"}`]);
    const said = [...(picture.alarms ?? []), ...(picture.troubles ?? [])].sort((one, other) => other.at - one.at).slice(0, SAID);
    put(by("noise"), facts(rows), said.length ? el("ul", { class: "said alarms" }, ...said.map((one) => el("li", {}, one.words, el("span", { class: "quiet" }, ` ${clock(one.at)}`)))) : "");
  }

  who() {
    const { picture } = this.store;
    const all = Object.entries(picture.proposers ?? {}).sort((one, other) => other[1].tried - one[1].tried);
    const paid = all.some(([, one]) => one.spent.tokens || one.spent.money);
    put(by("who"), all.length ? el("div", { class: "wide" }, el("table", {},
      el("thead", {}, el("tr", {}, ...["who", "tried", "kept", ...(paid ? ["tokens", "cost"] : [])].map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, ...all.map(([name, one]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, one.tried.toLocaleString("en")), el("td", {}, `${one.kept}${one.tried ? ` (${share(one.kept / one.tried)})` : ""}`),
        ...(paid ? [el("td", {}, one.spent.turns ? one.spent.tokens.toLocaleString("en") : "–"), el("td", {}, one.spent.turns > one.spent.unpriced ? `$${one.spent.money.toFixed(2)}` : "–")] : [])))))) : el("p", { class: "quiet" }, "No proposals yet."),
      picture.refused ? el("p", { class: "quiet" }, `${count(picture.refused, "proposal")} could not be tried.`) : "");
  }
}

/** A meter's bar; its width is set by an attribute, because inline styles are not allowed. */
function bar(part) {
  const inside = el("span", { "data-share": Math.round(part * 1000) });
  inside.style.width = `${part * 100}%`;
  return inside;
}


// One experiment in detail, or two compared.

import { ask } from "./ask.js";
import { figure } from "./curve.js";
import { by, clock, el, lasting, number, put, signed } from "./dom.js";
import { labelled } from "./store.js";

const CLAIM = "loss as claimed by the candidates; the metric is measured";
const HELD = 60; // experiments whose details are remembered

export class Detail {
  constructor(store, order) {
    this.store = store;
    this.order = order;
    this.box = by("inside");
    this.held = new Map();
    store.addEventListener("select", () => this.open());
    store.addEventListener("points", () => this.freshen());
    store.addEventListener("picture", () => this.orders());
    addEventListener("hashchange", () => this.hash());
    this.empty();
  }

  empty() {
    put(this.box, el("p", { class: "quiet" }, "Select an experiment in the chart or the list to see its change, curve and output."));
  }

  /** The experiment or experiments in the address: #12 or #12..30. */
  hash() {
    const found = location.hash.match(/^#(\d+)(?:\.\.(\d+))?$/);
    if (!found) return;
    const [one, other] = [Number(found[1]), found[2] === undefined ? null : Number(found[2])];
    if (one === this.store.selected && other === this.store.other) return;
    this.store.other = other;
    this.store.select(one, "address");
  }

  /** Compare the selected experiment with another. */
  compare(n) {
    const { store } = this;
    if (n === null || store.selected === null || n === store.selected || n >= store.size) return;
    store.other = n;
    store.select(store.selected, "compare");
  }

  async open() {
    const { selected, other, from } = this.store;
    if (selected === null) return this.empty();
    if (from !== "compare" && from !== "address" && from !== "fresh") this.store.other = null;
    const both = this.store.other;
    const address = `#${selected}${both === null ? "" : `..${both}`}`;
    if (location.hash !== address) history.replaceState(null, "", address);
    const asked = (this.asked = Symbol());
    this.box.setAttribute("aria-busy", "true");
    try {
      const told = await this.told(both === null ? `/api/experiments/${selected}` : `/api/compare?one=${selected}&other=${both}`);
      if (asked !== this.asked) return;
      put(this.box, ...(both === null ? this.one(told) : this.two(told)));
      this.orders();
    } catch (error) {
      if (asked === this.asked) put(this.box, el("p", { class: "trouble" }, error.message));
    } finally {
      if (asked === this.asked) this.box.removeAttribute("aria-busy");
    }
    if (from === "keys" || from === "compare") by("detail").focus({ preventScroll: matchMedia("(min-width: 900px)").matches });
    if (["list", "chart", "keys", "compare"].includes(from) && matchMedia("(max-width: 899px)").matches) by("detail").scrollIntoView({ block: "start" });
  }

  /** The server's response, cached once it can't change any more. */
  async told(path) {
    if (this.held.has(path)) return this.held.get(path);
    const told = await ask(path);
    const sides = told.sides ?? [told];
    if (sides.every((side) => side.status)) this.held.set(path, told);
    if (this.held.size > HELD) this.held.delete(this.held.keys().next().value);
    return told;
  }

  /** The shown experiment has new data. */
  freshen() {
    const n = this.store.selected;
    if (n === null) return;
    const now = `${this.store.status[n]} ${this.store.bar[n]} ${this.store.evidence.get(n)?.length}`;
    if (this.was === now && this.wasOf === n) return;
    const known = this.wasOf === n;
    [this.was, this.wasOf] = [now, n];
    if (!known) return;
    this.held.clear();
    this.store.select(n, "fresh");
  }

  /** The orders that are possible for it now. */
  orders() {
    const { picture, selected, status, readOnly, metric } = this.store;
    const acts = this.box.querySelector(".orders");
    if (!acts || selected === null || this.store.other !== null) return;
    const button = (words, order) => el("button", { type: "button", onclick: () => this.order(order), "data-order": order }, words);
    const flies = picture.running?.some((flight) => flight.experiment === selected) && selected > 0 && status[selected] === -1;
    put(acts, ...(readOnly ? [] : [
      flies ? button("Skip it", `skip ${selected}`) : "",
      picture.pinned === selected ? button("Unpin", "unpin") : Number.isNaN(metric[selected]) || status[selected] === 2 ? "" : button("Propose from here", `pin ${selected}`),
    ].filter(Boolean)));
  }

  // -- one -----------------------------------------------------------------------------------------

  one(told) {
    const { store } = this;
    const champion = store.picture.champion?.number;
    const link = (n, words) => (n === null || n === undefined || n === told.number ? "" : el("button", { type: "button", class: "plain", onclick: () => store.select(n, "list") }, words));
    const against = (n, words) => (n === null || n === undefined || n === told.number ? "" : el("button", { type: "button", onclick: () => this.compare(n) }, words));
    const curves = [
      ...told.parent_curves.slice(-1).map((curve) => ({ words: `its parent, #${told.parent}`, kind: "parent", points: curve.points })),
      ...told.curves.map((curve) => ({ words: `#${told.number}, seed ${curve.seed}`, kind: "own", points: curve.points })),
    ];
    return [
      this.heading(told),
      el("p", { class: "hypothesis" }, told.hypothesis || "no words"),
      facts(this.facts(told)),
      el("div", { class: "acts" }, link(told.parent, `Parent #${told.parent}`), against(told.parent, "Compare with parent"), against(champion, `Compare with champion #${champion}`), this.asking()),
      el("div", { class: "acts orders" }),
      section("Change", difference(told)),
      curves.length ? section("Training", figure(curves, CLAIM)) : "",
      told.trials.length ? section("Trials", trials(told.trials, store.about.metric.name)) : "",
      told.log ? section("End of its output", el("p", { class: "quiet" }, "Claimed by the candidate, not measured."), el("pre", { class: "log", tabindex: "0", "aria-label": "End of its output" }, told.log)) : "",
    ];
  }

  heading(told) {
    const verdict = told.status ?? "running";
    return el("h3", {}, `#${told.number} `, el("span", { class: `chip ${verdict}` }, verdict), told.level && told.level !== "measured" ? el("span", { class: "chip shown" }, told.level) : "",
      this.store.picture.champion?.number === told.number ? el("span", { class: "chip champion" }, "champion") : "");
  }

  facts(told) {
    const { store } = this;
    const n = told.number;
    const { name } = store.about.metric;
    const gain = store.gain(n);
    const sigmas = store.sigmas(n);
    const rows = [["verdict", [told.status, told.reason, told.detail].filter(Boolean).join(": ") || "none yet"]];
    if (told.metric !== null) rows.push([name, number(told.metric) + (told.measurement?.runs > 1 ? `, mean of ${told.measurement.runs} trials` : "")]);
    if (told.bar !== null) rows.push(["counts as", `${number(told.bar)}, without the luck of its runs`]);
    if (!Number.isNaN(gain)) rows.push(["against its parent", `${signed(gain)} better${Number.isNaN(sigmas) ? "" : `, ${signed(sigmas, 1)} times the noise`}`]);
    for (const one of told.evidence) rows.push([one.gain.low > 0 ? labelled(one) : `not shown (${labelled(one)})`, evidence(one)]);
    rows.push(["what changed", told.changes.length ? el("ul", { class: "changes" }, ...told.changes.map((change) => el("li", {}, change))) : n ? "none of its named constants" : "nothing: the baseline"]);
    rows.push(["proposed", `${clock(told.proposed_at)} by ${told.proposer}${turnWords(told.usage)}`]);
    if (told.judged_at) rows.push(["judged", `${clock(told.judged_at)}, ${lasting(told.judged_at - told.proposed_at)} later`]);
    rows.push(["commit", el("code", {}, told.commit.slice(0, 12))]);
    return rows;
  }

  asking() {
    const input = el("input", { type: "number", min: 0, max: Math.max(this.store.size - 1, 0), "aria-label": "Compare with experiment number", placeholder: "#", required: true });
    return el("form", { class: "asking", onsubmit: (event) => {
      event.preventDefault();
      this.compare(input.valueAsNumber);
    } }, input, el("button", {}, "Compare"));
  }

  // -- two -----------------------------------------------------------------------------------------

  two(told) {
    const [one, other] = told.sides;
    const { name } = this.store.about.metric;
    const rows = [
      ["verdict", (side) => [side.status ?? "none yet", side.reason].filter(Boolean).join(": ")],
      [name, (side) => number(side.metric)], ["counts as", (side) => number(side.bar)],
      ["evidence", (side) => side.level || "–"], ["what changed", (side) => side.changes.join("; ") || "–"],
      ["proposer", (side) => side.proposer], ["trained", (side) => (side.measurement ? lasting(side.measurement.training_seconds) : "–")],
      ["peak memory", (side) => (side.measurement ? `${Math.round(side.measurement.peak_memory_mb).toLocaleString("en")} MB` : "–")],
      ["lines of genome", (side) => side.lines],
    ];
    const curves = told.sides.flatMap((side, at) => side.curves.slice(-1).map((curve) => ({ words: `#${side.number}`, kind: at ? "own" : "parent", points: curve.points })));
    const back = (side) => el("button", { type: "button", class: "plain", onclick: () => this.store.select(side.number, "list") }, `#${side.number}`);
    return [
      el("h3", {}, `#${one.number} and #${other.number}`),
      el("div", { class: "wide" }, el("table", { class: "beside" },
        el("thead", {}, el("tr", {}, el("td", {}), ...told.sides.map((side) => el("th", { scope: "col" }, back(side), el("span", { class: "hypothesis" }, side.hypothesis))))),
        el("tbody", {}, ...rows.map(([words, of]) => el("tr", {}, el("th", { scope: "row" }, words), ...told.sides.map((side) => el("td", {}, String(of(side))))))))),
      figure(curves, CLAIM),
      section(`From #${one.number} to #${other.number}`, difference(told)),
    ];
  }
}

const section = (words, ...inside) => el("section", {}, el("h4", {}, words), ...inside);

export function facts(rows) {
  return el("dl", { class: "facts" }, ...rows.flatMap(([name, words]) => [el("dt", {}, name), el("dd", {}, words)]));
}

export function evidence({ gain, against, what }) {
  const over = against === 0 ? `over the baseline${what ? ` at ${what}` : ""}` : what;
  return `${number(gain.mean, 4)} better ${over}, ${Math.round(gain.level * 100)} % interval ${number(gain.low, 4)} to ${number(gain.high, 4)}, ${gain.pairs} pairs`;
}

function turnWords(usage) {
  const words = [usage.agent, usage.model].filter(Boolean);
  if (usage.input_tokens !== undefined) words.push(`${(usage.input_tokens + (usage.output_tokens ?? 0)).toLocaleString("en")} tokens`);
  if (usage.cost_usd !== undefined) words.push(`$${usage.cost_usd.toFixed(4)}`);
  if (usage.seconds !== undefined) words.push(`took ${lasting(usage.seconds)}`);
  return words.length ? ` · ${words.join(" · ")}` : "";
}

/** A coloured diff; each line also has a sign for added or removed. */
function difference({ diff, no_diff: why }) {
  if (why) return el("p", { class: "quiet" }, `No diff: ${why}`);
  if (!diff.length) return el("p", { class: "quiet" }, "No differences.");
  const signs = { added: "+", removed: "−" };
  return el("div", { class: "diff", tabindex: "0", role: "region", "aria-label": "The change, line by line" },
    ...diff.map(({ kind, spans, old, new: now }) => el("div", { class: kind },
      el("span", { class: "at", "data-at": now ?? old ?? "" }), el("span", { class: "sign" }, signs[kind] ?? " "),
      el("code", {}, ...spans.map(([look, text]) => (look ? el("span", { class: look }, text) : text))))));
}

function trials(all, metric) {
  const heads = ["purpose", "seed", metric, "trained", "memory", "result"];
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Its trials" }, el("table", {},
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...all.map((trial) => el("tr", {},
      el("td", {}, trial.purpose), el("td", {}, String(trial.seed)), el("td", {}, number(trial.metric)),
      el("td", {}, trial.training_seconds === undefined ? "" : lasting(trial.training_seconds)),
      el("td", {}, trial.peak_memory_mb ? `${Math.round(trial.peak_memory_mb).toLocaleString("en")} MB` : ""),
      el("td", {}, [trial.outcome, trial.disturbed && `not counted: ${trial.disturbed}`, trial.detail].filter(Boolean).join(": ")))))));
}


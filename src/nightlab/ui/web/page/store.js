// All experiments as columns, the selection, and the session's snapshot. Notifies listeners of changes.

export const STATUS = { keep: 0, discard: 1, crash: 2, running: -1 };
export const VERDICTS = { 0: "keep", 1: "discard", 2: "crash", "-1": "running" };
const NUMBERS = { status: Int8Array, metric: Float64Array, bar: Float64Array, gap: Float64Array, parent: Int32Array,
  proposed_at: Float64Array, judged_at: Float64Array, reason: Uint16Array, proposer: Uint16Array };
const CHUNK = 10000; // experiments whose words are fetched at once

/** A level of evidence, marked as a claim where the metric is only the candidate's claim. */
export const labelled = ({ level, claim }) => (claim ? `claim, ${level}` : level);

export class Store extends EventTarget {
  constructor() {
    super();
    this.picture = {};
    this.filter = { text: "", verdict: "", proposer: "", theme: "" };
    this.selected = null;
    this.other = null; // what the selected one is compared with
    this.from = ""; // where it was selected
    this.readOnly = false;
    this.asked = ""; // the order that the session has not taken up yet
    this.severed = ""; // why nothing new is heard
    this.empty();
  }

  empty() {
    this.size = 0;
    this.reasons = [];
    this.proposers = [];
    this.evidence = new Map();
    this.hypothesis = [];
    this.changes = [];
    this.theme = []; // what each is about: parts of the genome
    this.themes = new Map(); // how many experiments are about each
    for (const [name, kind] of Object.entries(NUMBERS)) this[name] = new kind(1024);
    this.shown = new Uint8Array(1024); // what the filter lets through
    this.matched = 0;
  }

  tell(what) {
    this.dispatchEvent(new Event(what));
  }

  /** Replace everything with the data of /api/points. */
  load(told) {
    this.empty();
    this.take(told);
    this.look(told.picture);
    this.refilter();
    this.tell("points");
  }

  /** Add or update experiments. */
  apply(told) {
    const fresh = told.number.filter((n, at) => told.status[at] === STATUS.keep && !(n < this.size && this.status[n] === STATUS.keep));
    this.take(told);
    this.hear(told.words);
    this.refilter(told.number);
    this.tell("points");
    return fresh;
  }

  take(told) {
    const reasons = told.reasons.map((word) => place(this.reasons, word));
    const proposers = told.proposers.map((word) => place(this.proposers, word));
    told.number.forEach((n, at) => {
      if (n >= this.status.length) this.grow(n + 1);
      for (const name of Object.keys(NUMBERS)) {
        const value = told[name][at];
        this[name][n] = name === "reason" ? reasons[value] : name === "proposer" ? proposers[value]
          : value === null ? (name === "parent" ? -1 : NaN) : value;
      }
      this.size = Math.max(this.size, n + 1);
    });
    for (const { number, all } of told.evidence) this.evidence.set(number, all);
  }

  grow(least) {
    const room = Math.max(least, 2 * this.status.length);
    for (const [name, kind] of Object.entries(NUMBERS)) {
      const old = this[name];
      this[name] = new kind(room);
      this[name].set(old);
    }
    const shown = this.shown;
    this.shown = new Uint8Array(room);
    this.shown.set(shown);
  }

  /** Fetch the texts of all experiments in the background, latest first. */
  async fetchWords(ask) {
    for (let last = this.size; last > 0; last -= CHUNK) {
      const told = await ask(`/api/words?first=${Math.max(0, last - CHUNK)}&last=${last}`);
      this.hear(told);
      this.refilter(told.number);
      this.tell("words");
    }
  }

  hear(told) {
    told.number.forEach((n, at) => {
      if (this.theme[n] === undefined) {
        this.theme[n] = told.theme[at].map((place) => told.themes[place]);
        for (const theme of this.theme[n]) this.themes.set(theme, (this.themes.get(theme) ?? 0) + 1);
      }
      this.hypothesis[n] = told.hypothesis[at];
      this.changes[n] = told.changes[at];
    });
  }

  look(picture) {
    this.picture = picture;
    this.tell("picture");
  }

  // -- selection -----------------------------------------------------------------------------------

  choose(filter) {
    Object.assign(this.filter, filter);
    this.refilter();
    this.tell("filter");
  }

  get filtering() {
    return Object.values(this.filter).some(Boolean);
  }

  /** Apply the filter to all experiments, or to changed ones. */
  refilter(changed = null) {
    const { text, verdict, proposer, theme } = this.filter;
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const who = proposer ? this.proposers.indexOf(proposer) : -1;
    const passes = (n) => (!verdict || this.isOf(n, verdict)) && (!proposer || this.proposer[n] === who)
      && (!theme || this.theme[n]?.includes(theme)) && (!words.length || this.says(n, words));
    const look = (n) => {
      const now = !this.filtering || passes(n) ? 1 : 0;
      this.matched += now - this.shown[n];
      this.shown[n] = now;
    };
    if (changed) changed.forEach(look);
    else for (let n = 0; n < this.size; n++) look(n);
  }

  isOf(n, verdict) {
    return verdict === "shown" ? this.level(n) !== "" : this.status[n] === STATUS[verdict];
  }

  says(n, words) {
    const said = `#${n} ${this.hypothesis[n] ?? ""} ${(this.changes[n] ?? []).join(" ")} ${this.reasons[this.reason[n]] ?? ""}`.toLowerCase();
    return words.every((word) => said.includes(word));
  }

  select(n, from = "") {
    if (n !== null && !(n >= 0 && n < this.size)) return;
    this.selected = n;
    this.from = from;
    this.tell("select");
  }

  // -- derived values ------------------------------------------------------------------------------

  get about() {
    return this.picture.about ?? { metric: { name: "metric", goal: "minimise", unit: "" } };
  }

  /** The numbers of kept, discarded and crashed experiments, without the baseline. */
  get tally() {
    const { keep = 0, discard = 0, crash = 0 } = this.picture.tally ?? {};
    return { keep: keep - (this.size && this.status[0] === STATUS.keep ? 1 : 0), discard, crash };
  }

  get maximise() {
    return this.about.metric.goal === "maximise";
  }

  /** Kept experiments in the order of their verdicts. */
  keeps() {
    const found = [];
    for (let n = 0; n < this.size; n++) if (this.status[n] === STATUS.keep) found.push(n);
    return found.sort((one, other) => this.judged_at[one] - this.judged_at[other]);
  }

  /** An experiment's value: its bar if it has one, else its metric. */
  value(n) {
    return Number.isNaN(this.bar[n]) ? this.metric[n] : this.bar[n];
  }

  /** The gain over its parent; NaN if unknown. */
  gain(n) {
    return this.maximise ? this.gap[n] : -this.gap[n];
  }

  /** The same in units of one trial's noise: where values are compared by ratios, that is a share of a value. */
  sigmas(n) {
    const { sigma, relative } = this.picture;
    const bar = this.metric[n] - this.gap[n];
    if (relative > 0 && bar > 0 && this.metric[n] > 0) return (Math.sign(this.gain(n)) * Math.abs(Math.log(bar / this.metric[n]))) / relative;
    return sigma > 0 ? this.gain(n) / sigma : NaN;
  }

  /** The strongest evidence for its gain over the baseline, in the ledger's words. */
  level(n) {
    const levels = (this.evidence.get(n) ?? []).filter((one) => one.against === 0 && one.gain.low > 0);
    const best = ["transferred", "held out", "confirmed"].map((level) => levels.findLast((one) => one.level === level)).find(Boolean);
    return best ? labelled(best) : "";
  }

  /** The latest interval of its gain over the baseline, significant or not. */
  interval(n) {
    return (this.evidence.get(n) ?? []).filter((one) => one.against === 0 && !one.what).at(-1)?.gain ?? null;
  }

  /** Whether it is better than its parent but was not kept: its parent was not the champion. */
  elsewhere(n) {
    return this.status[n] === STATUS.discard && this.gain(n) > 0 && this.parent[n] >= 0;
  }

  words(n) {
    return this.hypothesis[n] ?? "…";
  }

  /** An experiment in one sentence, for screen readers. */
  sentence(n) {
    const verdict = VERDICTS[this.status[n]];
    const reason = this.reasons[this.reason[n]];
    const value = Number.isNaN(this.metric[n]) ? "" : `, ${this.about.metric.name} ${this.metric[n].toPrecision(7)}`;
    return `#${n}, ${verdict}${reason && reason !== "improved" ? ` (${reason})` : ""}${value}, ${this.words(n)}`;
  }
}

/** Themes as short as is unambiguous: without the file if there is only one. */
export function shortly(themes) {
  const alone = new Set(themes.map((theme) => theme.split(":")[0])).size === 1;
  return themes.map((theme) => (alone ? theme.slice(theme.indexOf(":") + 1) : theme));
}

function place(words, word) {
  const at = words.indexOf(word);
  return at >= 0 ? at : words.push(word) - 1;
}

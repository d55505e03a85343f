// The commons: known authors, findings measured here, rejected records, shared findings.

import { facts } from "./detail.js";
import { by, clock, count, el, inFrame, number, put } from "./dom.js";

const NAMED = 10; // characters of an author's or a finding's name

export class Commons {
  constructor(store) {
    this.store = store;
    const later = inFrame(() => this.draw());
    store.addEventListener("picture", later);
  }

  draw() {
    const { commons } = this.store.picture;
    by("commons").hidden = !commons;
    if (!commons) return;
    put(by("commons-status"),
      commons.fault ? el("p", { class: "trouble" }, commons.fault) : "",
      facts(this.facts(commons)),
      commons.peers.length ? peers(commons) : "",
      commons.latest.length ? section("Measured here, latest first", el("ul", { class: "said" }, ...commons.latest.map((one) => this.verified(one)))) : "",
      commons.threats.length ? section("Dangerous: not run", el("ul", { class: "said alarms" }, ...commons.threats.map(([target, words]) => el("li", {}, name(target), ` ${words}`)))) : "",
      commons.declined.length ? section("Not run here", el("ul", { class: "said" }, ...commons.declined.map(([why, many]) => el("li", {}, count(many, "finding"), el("span", { class: "quiet" }, `: ${why}`))))) : "",
      commons.refusals.length ? section("Refused", el("ul", { class: "said" }, ...commons.refusals.map((one) => el("li", {}, name(one.author), ` ${one.category}`, el("span", { class: "quiet" }, `: ${one.detail}${one.times > 1 ? ` (${one.times} times)` : ""}`))))) : "");
  }

  facts(commons) {
    const measured = Object.entries(commons.verdicts).map(([verdict, many]) => `${many} ${verdict}`);
    const shared = Object.entries(commons.shared).map(([kind, many]) => count(many, kind));
    return [
      ["received", commons.authors ? `${count(commons.findings, "finding")} of ${count(commons.authors, "peer")}${commons.quarantined ? `, ${commons.quarantined} in quarantine` : ""}` : "nothing yet: get findings with nightlab sync"],
      ["measured", measured.length ? `${measured.join(", ")}; ${commons.adopted || "none"} adopted` : "none of it yet"],
      ["shared", shared.length ? shared.join(", ") : "nothing: see what would be shared with nightlab share"],
      ...(commons.adopted ? [["gained", `${signed(commons.gain)} in ${count(commons.experiments, "experiment")}; own ideas ${signed(commons.own_gain)} in ${count(commons.own_experiments, "experiment")}${saved(commons.saved)}`]] : []),
      ...(commons.combinations ? [["tried together", `${count(commons.combinations, "combination")}; those adopted ${signed(commons.combined_gain)}`]] : []),
      ...(commons.spared ? [["left alone", `${count(commons.spared, "finding")} that trusted labs refuted`]] : []),
      ...(commons.refused ? [["refused", count(commons.refused, "time")]] : []),
      ...(commons.threatening ? [["dangerous", count(commons.threatening, "finding")]] : []),
    ];
  }

  verified(one) {
    const { store } = this;
    return el("li", {},
      el("button", { type: "button", class: "plain", onclick: () => store.select(one.number, "list") }, `#${one.number}`), " ",
      el("span", { class: `chip ${one.verdict}` }, one.verdict), one.adopted ? [" ", el("span", { class: "chip keep" }, "adopted")] : "",
      ` ${one.hypothesis || "no words"}`, el("span", { class: "quiet" }, ` ${one.detail}${one.elsewhere ? ", on another genome than its own" : ""} · `, name(one.author), ` · ${clock(one.at)}`));
  }
}

const name = (hash) => el("code", {}, hash.slice(0, NAMED));

const section = (words, ...inside) => el("section", {}, el("h3", { class: "small" }, words), ...inside);

const signed = (gain) => `${gain < 0 ? "" : "+"}${number(gain, 4)}`;

const saved = (many) => many === null ? "" : `; ${many < 0 ? "cost" : "saved"} ${count(Math.abs(Math.round(many)), "experiment")} at the rate of own ideas`;

function peers(commons) {
  const rest = commons.authors - commons.peers.length;
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Peers" }, el("table", {},
    rest > 0 ? el("caption", { class: "quiet" }, `and ${count(rest, "peer")} more: nightlab commons`) : "",
    el("thead", {}, el("tr", {}, ...["peer", "trust", "findings", "of them here"].map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...commons.peers.map((peer) => el("tr", {}, el("th", { scope: "row" }, name(peer.author)),
      el("td", {}, peer.trust === null ? "unknown" : number(peer.trust, 2), peer.quarantined ? [" ", el("span", { class: "chip crash" }, "quarantine")] : ""),
      el("td", {}, peer.findings.toLocaleString("en")),
      el("td", {}, Object.entries(peer.verdicts).map(([verdict, many]) => `${many} ${verdict}`).join(", ") || "none", peer.adopted ? `; ${signed(peer.gain)}` : ""))))));
}

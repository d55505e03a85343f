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
    const { abroad } = this.store.picture;
    by("commons").hidden = !abroad;
    if (!abroad) return;
    put(by("abroad"),
      abroad.fault ? el("p", { class: "trouble" }, abroad.fault) : "",
      facts(this.facts(abroad)),
      abroad.peers.length ? peers(abroad) : "",
      abroad.latest.length ? section("Measured here, latest first", el("ul", { class: "said" }, ...abroad.latest.map((one) => this.verified(one)))) : "",
      abroad.threats.length ? section("Dangerous: not run", el("ul", { class: "said alarms" }, ...abroad.threats.map(([target, words]) => el("li", {}, name(target), ` ${words}`)))) : "",
      abroad.refusals.length ? section("Refused", el("ul", { class: "said" }, ...abroad.refusals.map((one) => el("li", {}, name(one.author), ` ${one.category}`, el("span", { class: "quiet" }, `: ${one.detail}${one.times > 1 ? ` (${one.times} times)` : ""}`))))) : "");
  }

  facts(abroad) {
    const measured = Object.entries(abroad.verdicts).map(([verdict, many]) => `${many} ${verdict}`);
    const shared = Object.entries(abroad.shared).map(([kind, many]) => count(many, kind));
    return [
      ["received", abroad.authors ? `${count(abroad.findings, "finding")} of ${count(abroad.authors, "peer")}${abroad.quarantined ? `, ${abroad.quarantined} in quarantine` : ""}` : "nothing yet: get findings with nightlab sync"],
      ["measured", measured.length ? `${measured.join(", ")}; ${abroad.adopted || "none"} adopted` : "none of it yet"],
      ["shared", shared.length ? shared.join(", ") : "nothing: see what would be shared with nightlab share"],
      ...(abroad.refused ? [["refused", count(abroad.refused, "time")]] : []),
      ...(abroad.threatening ? [["dangerous", count(abroad.threatening, "finding")]] : []),
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

function peers(abroad) {
  const rest = abroad.authors - abroad.peers.length;
  return el("div", { class: "wide" }, el("table", {},
    rest > 0 ? el("caption", { class: "quiet" }, `and ${count(rest, "peer")} more: nightlab commons`) : "",
    el("thead", {}, el("tr", {}, ...["peer", "trust", "findings", "of them here"].map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...abroad.peers.map((peer) => el("tr", {}, el("th", { scope: "row" }, name(peer.author)),
      el("td", {}, peer.trust === null ? "unknown" : number(peer.trust, 2), peer.quarantined ? [" ", el("span", { class: "chip crash" }, "quarantine")] : ""),
      el("td", {}, peer.findings.toLocaleString("en")),
      el("td", {}, Object.entries(peer.verdicts).map(([verdict, many]) => `${many} ${verdict}`).join(", ") || "none"))))));
}

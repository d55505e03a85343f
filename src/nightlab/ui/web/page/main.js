// The page: fetches all experiments once, then receives changes while it is open.

import { ask, tell } from "./ask.js";
import { Chart } from "./chart.js";
import { Commons } from "./commons.js";
import { Detail } from "./detail.js";
import { by, el } from "./dom.js";
import { List } from "./list.js";
import { Panels } from "./panels.js";
import { shortly, Store } from "./store.js";
import { Studies } from "./studies.js";

const SILENT = 60_000; // milliseconds without a word, after which the connection counts as lost
const MANY = 200; // that one can choose from, the most frequent
const PATIENCE = 200; // milliseconds after the last key of a filter

const store = new Store();
const said = (words) => (by("said").textContent = words);

async function order(word) {
  store.asked = word;
  store.tell("picture");
  try {
    await tell("/api/orders", { order: word });
    said(`${word}: ${store.picture.alive ? "asked" : "counts from the next start"}`);
  } catch (error) {
    store.asked = "";
    said(error.message);
    severed(error.message);
    setTimeout(() => severed(""), 8000);
  }
}

function severed(words) {
  store.severed = words;
  store.tell("picture");
}

// -- changes ---------------------------------------------------------------------------------------

let source = null;
let heard = Date.now();
let last = ""; // the mark of what was heard last
let tries = 0;

async function load() {
  source?.close();
  let told;
  try {
    told = await ask("/api/points");
  } catch (error) {
    severed(`${error.message} (trying again)`);
    setTimeout(load, Math.min(30_000, 1000 * 2 ** tries++));
    return;
  }
  tries = 0;
  store.readOnly = told.read_only;
  store.severed = "";
  store.load(told);
  performance.mark("painted");
  listen(told.mark);
  detail.hash();
  await store.fetchWords(ask).catch((error) => severed(error.message));
}

function listen(mark) {
  source?.close();
  last = mark;
  source = new EventSource(`/api/events?mark=${encodeURIComponent(mark)}`);
  const hear = (kind, does) => source.addEventListener(kind, (event) => {
    [heard, last] = [Date.now(), event.lastEventId];
    if (store.severed) store.severed = "";
    does(JSON.parse(event.data));
  });
  hear("picture", (told) => {
    if (told.paused !== store.picture.paused) store.asked = "";
    store.look(told);
  });
  hear("points", (told) => {
    for (const n of store.apply(told)) if (n) said(`kept: ${store.sentence(n)}`);
  });
  hear("anew", load);
  source.onopen = () => (heard = Date.now());
  source.onerror = () => {
    severed("the server does not answer: the page may be out of date");
    // A browser reconnects by itself, unless the server refused: then nightlab serve was restarted.
    if (source.readyState === EventSource.CLOSED) setTimeout(load, 5000);
  };
}

document.addEventListener("visibilitychange", () => {
  // After sleep, a connection may be lost without an event.
  if (!document.hidden && Date.now() - heard > SILENT && last) listen(last);
});

// -- interaction -----------------------------------------------------------------------------------

const detail = new Detail(store, order);
const list = new List(store, (n) => detail.compare(n));
new Chart(store);
new Panels(store);
new Commons(store);
new Studies();

by("pause").addEventListener("click", () => order(by("pause").dataset.order));
by("unpin").addEventListener("click", () => order("unpin"));

const filter = by("filter");
let waiting = 0;
filter.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => store.choose(Object.fromEntries(new FormData(filter))), PATIENCE);
});
filter.addEventListener("submit", (event) => event.preventDefault());
filter.addEventListener("reset", () => setTimeout(() => store.choose(Object.fromEntries(new FormData(filter)))));

/** The filter's options with their numbers of experiments; the selection is kept. */
function choices() {
  const put = (name, all) => {
    const select = filter.elements[name];
    const words = JSON.stringify(all);
    if (select.dataset.all === words) return;
    const chosen = select.value;
    select.dataset.all = words;
    select.replaceChildren(...all.map(([value, text]) => el("option", { value }, text)));
    select.value = all.some(([value]) => value === chosen) ? chosen : "";
  };
  const { tally } = store;
  const { proposers = {} } = store.picture;
  put("verdict", [["", "all"], ["keep", `kept (${tally.keep})`], ["discard", `discarded (${tally.discard})`], ["crash", `crashed (${tally.crash})`], ["running", "not judged yet"], ["shown", "shown on fresh seeds"]]);
  put("proposer", [["", "all"], ...Object.entries(proposers).sort((a, b) => b[1].tried - a[1].tried).map(([name, one]) => [name, `${name} (${one.tried})`])]);
  const themes = [...store.themes].sort((a, b) => b[1] - a[1]).slice(0, MANY);
  const short = shortly(themes.map(([name]) => name));
  put("theme", [["", "all"], ...themes.map(([name, many], at) => [name, `${short[at]} (${many})`])]);
}
for (const event of ["picture", "points", "words"]) store.addEventListener(event, choices);

by("note").addEventListener("submit", async (event) => {
  event.preventDefault();
  const input = event.target.elements.words;
  try {
    await tell("/api/notes", { words: input.value });
    input.value = "";
    said("noted");
  } catch (error) {
    severed(error.message);
  }
});

by("detail").addEventListener("keydown", (event) => {
  if (event.key === "Escape") list.box.focus();
});

// -- colours ---------------------------------------------------------------------------------------

const COLOURS = { system: "◐", light: "○", dark: "●" };

function wear(colours) {
  document.documentElement.dataset.colours = colours;
  by("colours").textContent = COLOURS[colours];
  by("colours").setAttribute("aria-label", `Colours: ${colours === "system" ? "as the system" : colours}`);
  store.tell("picture");
}

by("colours").addEventListener("click", () => {
  const names = Object.keys(COLOURS);
  const next = names[(names.indexOf(document.documentElement.dataset.colours) + 1) % names.length];
  localStorage.setItem("colours", next);
  wear(next);
});
wear(COLOURS[localStorage.getItem("colours")] ? localStorage.getItem("colours") : "system");
load();

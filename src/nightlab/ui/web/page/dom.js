// Elements, and formats of numbers and times. Untrusted text is inserted as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export const by = (id) => document.getElementById(id);

/** An element with its properties and children: elements, or anything else as text. */
export function el(name, props = {}, ...inside) {
  return fill(document.createElement(name), props, inside);
}

export function svg(name, props = {}, ...inside) {
  return fill(document.createElementNS(SVG, name), props, inside);
}

function fill(element, props, inside) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...inside.flat().filter((one) => one !== null && one !== undefined && one !== ""));
  return element;
}

/** Replace the children but keep unchanged ones, to avoid flicker and keep the focus. */
export function put(element, ...inside) {
  const fresh = [...el("div", {}, ...inside).childNodes];
  fresh.forEach((one, at) => {
    const old = element.childNodes[at];
    if (!old) element.append(one);
    else if (!old.isEqualNode(one)) old.replaceWith(one);
  });
  while (element.childNodes.length > fresh.length) element.lastChild.remove();
}

/** Wraps a draw function so that several calls draw once, at the next frame. */
export function inFrame(draw) {
  let waits = false;
  return () => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      draw();
    });
  };
}

/** A value of the metric: six decimals, fewer for large values. */
export function number(value, digits = 6) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e9 || size < 1e-5)) return value.toExponential(3);
  return minus(value.toFixed(Math.max(0, digits - Math.max(0, Math.floor(Math.log10(size || 1))))));
}

export const signed = (value, digits = 6) => (value > 0 ? "+" : "") + number(value, digits);

const minus = (text) => text.replace("-", "−");

export const count = (many, noun) => `${many.toLocaleString("en")} ${noun}${many === 1 ? "" : "s"}`;

export const share = (value) => (value === null || value === undefined ? "–" : `${Math.round(value * 100)} %`);

/** A duration as text: its two largest units. */
export function lasting(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

export const clock = (at) =>
  new Date(at * 1000).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });

/** A style sheet's colour for use on a canvas, in the current colour scheme. */
export function colours(...names) {
  const probe = document.body.appendChild(el("i", { class: "unseen" }));
  const found = names.map((name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  });
  probe.remove();
  return Object.fromEntries(names.map((name, at) => [name, found[at]]));
}

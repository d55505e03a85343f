// Drawing on a canvas, and round values for an axis.

export const cut = (words, most) => (words.length > most ? `${words.slice(0, most - 1)}…` : words);

/** Text cut to a width in pixels; empty if too little would be left. */
export function fitted(pen, words, room) {
  const part = room / pen.measureText(words).width;
  if (part >= 1) return words;
  return part * words.length < 16 ? "" : cut(words, Math.floor(part * words.length));
}

/** About this many round values between two. */
export function ticks(low, high, about) {
  const rough = (high - low) / about || 1;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * unit).find((one) => one >= rough);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at++) found.push(at * step);
  return found;
}

export function dot(pen, x, y, radius) {
  pen.moveTo(x + radius, y);
  pen.arc(x, y, radius, 0, 2 * Math.PI);
}

export function cross(pen, x, y, arm) {
  const thin = Math.max(0.9, arm / 3);
  for (const turn of [Math.PI / 4, -Math.PI / 4]) {
    const [c, s] = [Math.cos(turn), Math.sin(turn)];
    const corner = (a, b) => [x + a * c - b * s, y + a * s + b * c];
    pen.moveTo(...corner(-arm, -thin / 2));
    for (const [a, b] of [[arm, -thin / 2], [arm, thin / 2], [-arm, thin / 2]]) pen.lineTo(...corner(a, b));
    pen.closePath();
  }
}

export function line(pen, paint, from, to) {
  pen.strokeStyle = paint;
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

export function ring(pen, paint, x, y, radius) {
  pen.strokeStyle = paint;
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.stroke();
  pen.lineWidth = 1;
}

// Chapter 2: a batch of eight numbers on a line, to be dragged. What batch norm makes of them, and of a gradient on its way back.

import { button, choice, controls, h, s } from "./ui.js";
import { Random } from "./random.js";
import { along, arriving, thereAndBack } from "./wayback.js";

const START = [-2.6, -1.9, -0.8, -0.2, 0.5, 1.2, 2.1, 3.4];
const COUNT = START.length;
const [LOW, HIGH] = [-5, 5]; // where a point may go
const KINDS = { one: "at one point", random: "random", same: "the same everywhere", along: "along x̂" };

const fixed = (value, digits = 2) => (Math.abs(value) < 0.5 * 10 ** -digits ? 0 : value).toFixed(digits).replace("-", "−");
const HEIGHT = { lines: 200, bars: 200 };
const MARGIN = 26;

export function mount(place) {
  const x = [...START];
  let chosen = 4;
  let draws = 0;
  let drawn;
  const redraw = () => {
    const random = new Random(2, draws++);
    drawn = Array.from({ length: COUNT }, () => random.normal());
  };
  redraw();

  const lines = s("svg", { class: "bench-chart bench-line-of-points", height: HEIGHT.lines, role: "group", "aria-label": "Eight points of a batch. Arrow keys move the one in focus." });
  const bars = s("svg", { class: "bench-chart", height: HEIGHT.bars, role: "img" });
  const left = h("div", { class: "bench-plot" }, lines);
  const right = h("div", { class: "bench-plot" }, bars);
  const kind = choice({ label: "Gradient that arrives at x̂", options: KINDS, value: "one", change: () => changed() });
  const tick = () => h("input", { type: "checkbox", onchange: () => changed() });
  const detach = { mean: tick(), variance: tick() };
  const switches = h("fieldset", { class: "explore-choice" }, h("legend", {}, "Leave out of the way back"),
    h("label", {}, detach.mean, " detach the mean"), h("label", {}, detach.variance, " detach the variance"));
  const another = button("New random gradient", () => {
    redraw();
    kind.value = "random";
    changed();
  });
  const back = button("Start over", () => {
    START.forEach((own, i) => (x[i] = own));
    changed();
  });
  const sums = h("p", { class: "bench-sums" });
  const said = h("p", { class: "bench-said", role: "status" });
  place.replaceChildren(h("div", { class: "bench-plots" }, left, right), sums, controls(kind.element, switches), h("div", { class: "bench-buttons" }, another, back), said);

  // Every point is a slider: one element for good, so that the focus stays on it. What is seen of it is drawn anew each time.
  const points = x.map((_, i) => {
    return s("g", { class: "bench-point", tabindex: 0, role: "slider", "aria-label": `point ${i + 1}`, "aria-valuemin": LOW, "aria-valuemax": HIGH, onkeydown: (event) => key(event, i), onfocus: () => pick(i) },
      s("circle", { class: "bench-reach", r: 22 }));
  });
  const scenery = s("g");
  lines.append(scenery, ...points);

  const width = () => Math.max(200, left.clientWidth);
  const over = (value, low = LOW, high = HIGH) => MARGIN + ((value - low) / (high - low)) * (width() - 2 * MARGIN);

  // The pointer takes the point nearest to it: under a thumb several lie on top of each other.
  let held = null;
  const value = (event) => {
    const box = lines.getBoundingClientRect();
    return LOW + ((event.clientX - box.left - MARGIN) / (box.width - 2 * MARGIN)) * (HIGH - LOW);
  };
  lines.addEventListener("pointerdown", (event) => {
    if (event.clientY - lines.getBoundingClientRect().top > 96) return; // only the upper line can be dragged
    const here = value(event);
    held = x.reduce((best, own, i) => (Math.abs(own - here) < Math.abs(x[best] - here) ? i : best), 0);
    event.preventDefault();
    lines.setPointerCapture(event.pointerId);
    points[held].focus({ preventScroll: true });
    move(held, here);
  });
  lines.addEventListener("pointermove", (event) => held !== null && move(held, value(event)));
  for (const end of ["pointerup", "pointercancel"]) lines.addEventListener(end, () => (held = null));

  function key(event, i) {
    const step = { ArrowLeft: -0.1, ArrowDown: -0.1, ArrowRight: 0.1, ArrowUp: 0.1, PageDown: -1, PageUp: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    move(i, x[i] + step);
  }

  function move(i, to) {
    x[i] = Math.round(Math.min(HIGH, Math.max(LOW, to)) * 100) / 100;
    said.textContent = ""; // it spoke of another batch
    draw();
  }

  function pick(i) {
    chosen = i;
    draw();
  }

  function changed() {
    draw();
    said.textContent = sentence();
  }

  let found;
  function draw() {
    const { hat } = thereAndBack(x, x);
    const g = arriving(kind.value, chosen, hat, drawn);
    found = { g, ...thereAndBack(x, g, { mean: detach.mean.checked, variance: detach.variance.checked }) };
    drawLines();
    drawBars();
    const { shift, stretch } = along(found);
    sums.replaceChildren(h("span", {}, "along the constant vector: Σ ∂L/∂x = ", h("strong", {}, fixed(shift))), h("span", {}, "along x̂: Σ x̂ ∂L/∂x = ", h("strong", {}, fixed(stretch))));
  }

  function sentence() {
    const { shift, stretch } = along(found);
    const word = (sum) => (Math.abs(sum) < 0.005 ? "zero" : fixed(sum));
    const off = Object.keys(detach).filter((name) => detach[name].checked);
    return `${off.length ? `Detached: ${off.join(" and ")}` : "Nothing detached"}. The gradient's sum is ${word(shift)}, its sum along x̂ ${word(stretch)}.${off.length === 2 ? " It is the arriving gradient, divided by s." : ""}`;
  }

  function drawLines() {
    const { hat, mean, sd, dx } = found;
    lines.setAttribute("viewBox", `0 0 ${width()} ${HEIGHT.lines}`);
    const end = width() - MARGIN;
    const [top, below] = [62, 140];
    const numbers = (low, high, y) => [low, (low + high) / 2, high].map((at) => s("text", { class: "bench-tick", x: over(at, low, high), y, "text-anchor": "middle" }, String(at).replace("-", "−")));
    const inFront = [...x.keys()].sort((a, b) => (a === chosen) - (b === chosen)); // the chosen one covers the others
    const disc = (i, left, y, r) => s("g", { class: i === chosen ? "bench-disc chosen" : "bench-disc", transform: `translate(${left} ${y})` }, s("circle", { r }), s("text", { y: 4, "text-anchor": "middle" }, String(i + 1)));
    const narrow = (at) => Math.min(end, Math.max(MARGIN, at));
    scenery.replaceChildren(
      s("text", { class: "bench-axis", x: 4, y: 14 }, `the batch x: mean ${fixed(mean)}, standard deviation ${fixed(sd)}`),
      s("path", { class: "bench-frame", d: `M${MARGIN} ${top}H${end}` }), ...numbers(LOW, HIGH, top + 36),
      s("path", { class: "bench-spread", d: `M${narrow(over(mean - sd))} ${top - 24}H${narrow(over(mean + sd))}M${over(mean)} ${top - 30}v12` }),
      s("text", { class: "bench-axis", x: 4, y: HEIGHT.lines - 4 }, `what comes out, x̂: mean 0, standard deviation ${fixed(Math.hypot(...hat) / Math.sqrt(COUNT))}`),
      s("path", { class: "bench-frame", d: `M${MARGIN} ${below}H${end}` }), ...numbers(-3, 3, below + 36),
      ...hat.map((own, i) => s("path", { class: "bench-thread", d: `M${over(x[i])} ${top + 12}L${over(own, -3, 3)} ${below - 9}` })),
      ...inFront.flatMap((i) => [disc(i, over(x[i]), top, 11), disc(i, over(hat[i], -3, 3), below, 9)]),
    );
    points.forEach((point, i) => {
      point.setAttribute("transform", `translate(${over(x[i])} ${top})`);
      point.setAttribute("aria-valuenow", x[i]);
      point.setAttribute("aria-valuetext", `${fixed(x[i])}; normalized ${fixed(hat[i])}; gradient ${fixed(dx[i])}`);
    });
  }

  function drawBars() {
    const { g, dx, sd } = found;
    const across = Math.max(200, right.clientWidth);
    bars.setAttribute("viewBox", `0 0 ${across} ${HEIGHT.bars}`);
    const most = Math.max(...g.map(Math.abs), ...dx.map(Math.abs));
    const limit = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((one) => one >= most) ?? 2000;
    const [from, top, bottom] = [46, 28, HEIGHT.bars - 26];
    const at = (own) => (top + bottom) / 2 - (own / limit) * ((bottom - top) / 2);
    const column = (across - from - 4) / COUNT;
    const bar = (name, own, i, shift) => {
      const [one, other] = [at(0), at(own)];
      return s("rect", { class: name, x: from + i * column + shift * column, y: Math.min(one, other), width: column * 0.34, height: own && Math.max(1, Math.abs(one - other)) });
    };
    bars.replaceChildren(
      s("rect", { class: "bench-dy", x: 4, y: 5, width: 10, height: 10 }), s("text", { x: 19, y: 14 }, "gradient at x̂, arriving"),
      s("rect", { class: "bench-dx", x: 190, y: 5, width: 10, height: 10 }), s("text", { x: 205, y: 14 }, "at x, leaving"),
      ...[-limit, 0, limit].flatMap((own) => [s("path", { class: own ? "bench-grid" : "bench-frame", d: `M${from} ${at(own)}H${across - 4}` }), s("text", { class: "bench-tick", x: from - 6, y: at(own) + 4, "text-anchor": "end" }, String(own).replace("-", "−"))]),
      ...g.flatMap((own, i) => [bar("bench-dy", own, i, 0.14), bar("bench-dx", dx[i], i, 0.52), s("text", { x: from + (i + 0.5) * column, y: HEIGHT.bars - 8, "text-anchor": "middle", "font-weight": i === chosen ? 700 : 400 }, String(i + 1))]),
    );
    bars.setAttribute("aria-label", `Gradients of points 1 to ${COUNT}. Arriving: ${g.map((own) => fixed(own)).join(", ")}. Leaving: ${dx.map((own) => fixed(own)).join(", ")}. Standard deviation ${fixed(sd)}.`);
  }

  new ResizeObserver(() => draw()).observe(place);
  draw();
}

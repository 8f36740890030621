"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);
const table = one("#cells"), body = table.tBodies[0], rows = [...body.rows];
const groups = [...table.tHead.rows[0].cells], heads = [...table.tHead.rows[1].cells];
const form = one("#filter"), tip = one("#tip");
rows.forEach((row, i) => {
  for (const cell of row.cells) {
    if (cell.textContent === "″") cell.textContent = rows[i - 1].cells[cell.cellIndex].textContent;
  }
});
const texts = rows.map(row => [...row.cells].map(cell => cell.textContent.trim()));
const NAMES = 5, SELECTS = [0, 2, 3, 4];  // what names a cell; which of these have a list
const THEMES = { "": "light dark", light: "light", dark: "dark" };
const range = text => {  // "3-5" is 3, 4, 5
  const [first, last = first] = text.split("-").map(Number);
  return Array.from({ length: last - first + 1 }, (_, n) => first + n);
};
const indices = element => element.dataset.i.split(" ").filter(Boolean).flatMap(range);

// --- state, which is the address ---------------------------------------------------------------

const state = new URLSearchParams(location.hash.slice(1));

function set(name, value) {
  if (value) state.set(name, value); else state.delete(name);
  history.replaceState(null, "", "#" + state);
  apply();
}

for (const k of SELECTS) {
  const values = [...new Set(texts.map(text => text[k]))].filter(Boolean);
  if (values.length < 2) continue;
  const list = document.createElement("select");
  list.name = heads[k].textContent.trim();
  list.setAttribute("aria-label", list.name);
  list.append(new Option(`any ${list.name}`, ""), ...values.map(value => new Option(value, value)));
  list.dataset.k = k;
  form.insertBefore(list, one("output", form));
}
form.addEventListener("input", event => set(event.target.name, event.target.value));
form.addEventListener("submit", event => event.preventDefault());
one("#theme").addEventListener("click", () => {
  const names = Object.keys(THEMES), now = names.indexOf(state.get("theme") || "");
  set("theme", names[(now + 1) % names.length]);
});
heads.forEach((head, k) => one("button", head).addEventListener("click", () => {
  const now = state.get("sort");
  set("sort", now === `${k}` ? `-${k}` : now === `-${k}` ? "" : `${k}`);
}));
addEventListener("hashchange", () => {
  const found = new URLSearchParams(location.hash.slice(1));
  for (const name of [...state.keys()]) state.delete(name);
  for (const [name, value] of found) state.set(name, value);
  apply();
});

// --- sorting and filtering ---------------------------------------------------------------------

const SCALE = { n: 1e-9, u: 1e-6, m: 1e-3, "": 1, k: 1e3, M: 1e6, G: 1e9 };

function number(text) {  // what a text of the report says; NaN where it is none
  if (text === "full") return Infinity;
  const found = /^([\d.]+) ?([numkMG]?)(?=s|B|F|%|°|$| )/.exec(text);
  return found ? found[1] * SCALE[found[2]] : NaN;
}

function compared(k, sign) {
  return (a, b) => {
    const x = texts[a][k], y = texts[b][k];
    if (k < NAMES - 1) return sign * x.localeCompare(y);
    const p = number(x), q = number(y);
    if (isNaN(p) || isNaN(q)) return isNaN(p) - isNaN(q);  // what is no number stands last
    return p === q ? 0 : sign * (p < q ? -1 : 1);
  };
}

function apply() {
  for (const field of form.elements) field.value = state.get(field.name) || "";
  const theme = state.get("theme") in THEMES ? state.get("theme") : "";
  document.documentElement.style.colorScheme = THEMES[theme];
  one("#theme").textContent = `Theme: ${theme || "system"}`;
  const words = (state.get("q") || "").toLowerCase().split(/\s+/).filter(Boolean);
  const lists = all("select", form).filter(list => list.value);
  const shown = texts.map(text => lists.every(list => text[list.dataset.k] === list.value) &&
    words.every(word => text.some(cell => cell.toLowerCase().includes(word))));
  rows.forEach((row, i) => { row.hidden = !shown[i]; });
  one("output", form).textContent = `${shown.filter(Boolean).length} of ${rows.length} cells`;
  for (const part of all(".map tbody tr, .charts:not(.large) figure")) {
    part.hidden = !indices(one(".plot", part) || part).some(i => shown[i]);
  }
  for (const whole of all(".map table, details")) {
    whole.hidden = all("tbody tr, figure", whole).every(part => part.hidden);
  }
  const sort = state.get("sort") || "", k = Math.abs(parseInt(sort, 10)), sign = sort[0] === "-" ? -1 : 1;
  const order = rows.map((_, i) => i);
  if (k < heads.length) order.sort(compared(k, sign));
  body.append(...order.map(i => rows[i]));
  heads.forEach((head, n) => head.setAttribute("aria-sort",
    n !== k ? "none" : sign > 0 ? "ascending" : "descending"));
}

// --- tooltips: by mouse, touch and keyboard ----------------------------------------------------

function described(i, mark) {  // a row of the table, the column of this class marked
  const lines = [texts[i].slice(0, NAMES).filter(Boolean).join(" · ")];
  let k = NAMES;
  for (const group of groups.slice(1)) {
    const said = [];
    for (const end = k + group.colSpan; k < end; k++) {
      const name = heads[k].textContent.trim(), bare = ["time", "rate"].includes(name);
      if (texts[i][k]) said.push(bare ? texts[i][k] : `${name} ${texts[i][k]}`);
      const why = rows[i].cells[k].dataset.why;
      if (why) said.push(why);
    }
    const label = group.firstChild ? group.firstChild.textContent : "";
    lines.push(`${mark && group.classList.contains(mark) ? "▸ " : ""}${label}: ${said.join(", ")}`);
  }
  return lines.join("\n");
}

function show(text, x, y) {
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 12, innerWidth - width - 8))}px`;
  tip.style.top = `${y + 16 + height < innerHeight ? y + 16 : Math.max(8, y - height - 12)}px`;
}

function hide() {
  tip.hidden = true;
  for (const ring of all(".ring")) ring.remove();
}

function points(plot) {  // [{x, y, i, name}] of a chart, from left to right
  plot.points ||= all("path:not(.grid, .ceiling, .roof)", plot).flatMap(path => {
    const places = path.getAttribute("d").match(/-?\d+/g).map(Number);
    return indices(path.dataset.i ? path : plot).map((i, n) => ({ x: places[2 * n], y: places[2 * n + 1], i, name: path.classList[0] }));
  }).sort((a, b) => a.x - b.x || a.y - b.y);
  return plot.points;
}

function pick(plot, n) {
  const found = points(plot)[plot.at = n];
  hide();
  const ring = document.createElementNS(plot.namespaceURI, "circle");
  for (const [name, value] of Object.entries({ class: "ring", cx: found.x, cy: found.y, r: 10 })) ring.setAttribute(name, value);
  plot.append(ring);
  const { x, y } = new DOMPoint(found.x, found.y).matrixTransform(plot.getScreenCTM());
  show(described(found.i, found.name), x, y);
}

function nearest(plot, event) {
  const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(plot.getScreenCTM().inverse());
  const far = points(plot).map(point => Math.hypot(point.x - x, point.y - y));
  const n = far.indexOf(Math.min(...far));
  if (far[n] < 40) pick(plot, n); else hide();
}

function asked(target) {  // a cell of a table that has something to say
  const cell = target.closest?.(".map td[class], td[data-why]");
  if (!cell) return hide();
  const { left, bottom } = cell.getBoundingClientRect();
  const row = cell.parentNode, told = [...row.cells].filter(each => each.matches("td[class]"));
  show(cell.dataset.why || described(indices(row)[told.indexOf(cell)]), left, bottom - 12);
}

for (const plot of all("svg.plot")) {
  const said = { tabindex: 0, role: "img", "aria-label": one("figcaption", plot.parentNode).textContent };
  for (const [name, value] of Object.entries(said)) plot.setAttribute(name, value);
  for (const name of ["pointermove", "pointerdown"]) plot.addEventListener(name, event => nearest(plot, event));
  plot.addEventListener("focus", () => { if (plot.matches(":focus-visible")) pick(plot, plot.at || 0); });
}
new ResizeObserver(() => document.documentElement.style.setProperty("--filter", `${form.offsetHeight + 8}px`)).observe(form);
for (const cell of all("td[data-why]")) cell.tabIndex = 0;
for (const map of all(".map")) one("td[class]", map)?.setAttribute("tabindex", 0);
for (const name of ["pointerover", "focusin", "click"]) {
  document.addEventListener(name, event => { if (!event.target.closest?.("svg.plot")) asked(event.target); });
}
addEventListener("scroll", () => { if (!document.activeElement.matches("svg.plot, td")) hide(); }, true);
document.addEventListener("keydown", event => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const at = event.target;
  if (event.key === "Escape") hide();
  if (!step) return;
  if (at.matches?.("svg.plot")) {
    const count = points(at).length;
    pick(at, ((at.at || 0) + step[0] + step[1] + count) % count);
  } else if (at.matches?.(".map td")) {
    const lines = all("tbody tr", at.closest(".map")).filter(row => row.offsetParent);
    const row = lines[lines.indexOf(at.parentNode) + step[1]];
    const next = row?.cells[Math.min(at.cellIndex + step[0], row.cells.length - 1)];
    if (!next?.matches("td[class]")) return;
    at.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  } else return;
  event.preventDefault();
});
apply();

// The page is whole without this script. It keeps it up to date, and lets the grid of namespaces be walked.
"use strict";

const live = document.getElementById("live");
const grid = document.getElementById("grid");
const cells = grid ? Array.from(grid.children) : [];

function say(text, tone) {
  live.textContent = text;
  live.className = "live " + tone;
}

// Replaces a part; who stands on a button or link of it stands on the same one afterwards.
function replace(name, html) {
  const part = document.getElementById("part-" + name);
  if (!part || part.innerHTML === html) return;
  const held = part.contains(document.activeElement) ? document.activeElement : null;
  const open = Array.from(part.querySelectorAll("details"), (box) => box.open);
  const scrolled = Array.from(part.querySelectorAll(".scroll"), (box) => [box.scrollTop, box.scrollLeft]);
  part.innerHTML = html;
  part.querySelectorAll(".scroll").forEach((box, n) => {
    if (scrolled[n]) [box.scrollTop, box.scrollLeft] = scrolled[n];
  });
  part.querySelectorAll("details").forEach((box, n) => {
    if (open[n] !== undefined) box.open = open[n];
  });
  if (held) {
    const same = Array.from(part.querySelectorAll(held.tagName)).find((one) =>
      ["href", "formaction", "name", "value", "aria-label"].every((key) => one.getAttribute(key) === held.getAttribute(key)));
    (same || document.getElementById("main")).focus({ preventScroll: true });
  }
}

function draw(news) {
  const began = performance.now();
  for (const [name, html] of Object.entries(news.parts || {})) replace(name, html);
  if (news.all !== undefined) {
    news.all.split(",").forEach((look, n) => {
      if (cells[n] && cells[n].className !== look) cells[n].className = look;
    });
  }
  for (const [n, look] of Object.entries(news.cells || {})) cells[n].className = look;
  performance.measure("vecfleet:update", { start: began });
}

function follow() {
  const source = new EventSource(live.dataset.events);
  source.onopen = () => say("live", "on");
  source.onmessage = (message) => {
    const news = JSON.parse(message.data);
    if (news.trouble) return say(news.trouble, "off");
    say("live", "on");
    draw(news);
  };
  source.onerror = () => say("not live: trying again", "off");
  // A page that is left must not be shown as it was when somebody comes back to it.
  addEventListener("pagehide", () => source.close());
}

// The grid is one stop of the Tab key; arrows walk its cells, Enter or a click shows one.
let here = -1;

function walk(to) {
  if (to < 0 || to >= cells.length) return;
  if (here >= 0) cells[here].removeAttribute("aria-current");
  here = to;
  cells[here].setAttribute("aria-current", "true");
  cells[here].scrollIntoView({ block: "nearest" });
}

function aRow() {
  const top = cells[0].offsetTop;
  const next = cells.findIndex((cell) => cell.offsetTop > top);
  return next < 0 ? cells.length : next;
}

async function show() {
  if (here < 0) return;
  const panel = document.getElementById("cell");
  const answer = await fetch(`/jobs/${grid.dataset.job}/namespaces/${here + 1}?part=true`, { headers: { Accept: "text/html" } });
  panel.innerHTML = answer.ok ? await answer.text() : "This namespace could not be read; load the page again.";
  panel.hidden = false;
}

if (grid && cells.length) {
  grid.addEventListener("click", (event) => {
    const at = cells.indexOf(event.target);
    if (at >= 0) { walk(at); show(); }
  });
  grid.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: aRow(), ArrowUp: -aRow() };
    if (event.key in steps) walk(here < 0 ? 0 : here + steps[event.key]);
    else if (event.key === "Home") walk(0);
    else if (event.key === "End") walk(cells.length - 1);
    else if (event.key === "Enter" || event.key === " ") show();
    else if (event.key === "Escape") document.getElementById("cell").hidden = true;
    else return;
    event.preventDefault();
  });
}

follow();

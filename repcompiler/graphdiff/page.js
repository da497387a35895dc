"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const at = (id) => document.getElementById(id);
const boxes = all(".box");
const counterparts = new Map();
for (const box of boxes) {
  const link = box.dataset.link;
  counterparts.set(link, [...(counterparts.get(link) || []), box]);
}
document.documentElement.classList.add("scripted");

function light(link, on) {
  for (const box of counterparts.get(link) || []) box.classList.toggle("lit", on);
}
let chosen = null;
function unlight() {
  if (chosen) light(chosen, false);
  chosen = null;
}

function open(element) {
  for (let d = element.closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
}
function show(box) {
  open(box);
  box.scrollIntoView({ block: "center", inline: "nearest" });
}

function line(list, what, text) {
  if (!text || text === "0") return;
  list.append(Object.assign(document.createElement("dt"), { textContent: what }));
  list.append(Object.assign(document.createElement("dd"), { textContent: text }));
}
function describe(box) {
  const data = box.dataset, list = document.createElement("dl");
  line(list, "operation", data.text);
  line(list, "name", data.name);
  line(list, "shape", data.shape);
  line(list, "parameters", Number(data.parameters).toLocaleString("en"));
  line(list, "MACs", Number(data.macs).toLocaleString("en"));
  line(list, "why it stays", data.why);
  const article = at("region-" + data.link);
  at("node").replaceChildren(list, ...(article ? [article.cloneNode(true)] : []));
  if (article) at("node").lastChild.removeAttribute("id");
}
function choose(box) {
  const { top } = box.getBoundingClientRect();
  unlight();
  chosen = box.dataset.link;
  light(chosen, true);
  describe(box);
  at("panel").hidden = false;
  document.body.classList.add("telling");
  const other = counterparts.get(chosen).find((b) => b.id[0] !== box.id[0]);
  if (other) open(other);
  window.scrollBy(0, box.getBoundingClientRect().top - top); // what was clicked stays where it is
}
function close() {
  at("panel").hidden = true;
  document.body.classList.remove("telling");
  unlight();
}

document.addEventListener("mouseover", (event) => {
  const box = event.target.closest(".box");
  if (box) light(box.dataset.link, true);
});
document.addEventListener("mouseout", (event) => {
  const box = event.target.closest(".box");
  if (box && box.dataset.link !== chosen) light(box.dataset.link, false);
});
let dragged = false;
document.addEventListener("click", (event) => {
  if (dragged) return;
  const box = event.target.closest(".box"), port = event.target.closest(".port");
  if (box) choose(box);
  if (port) at(port.dataset.to) && (show(at(port.dataset.to)), choose(at(port.dataset.to)));
});
at("close").addEventListener("click", close);

// Pan: drag a picture; both sides of a row, and the page, move.
for (const figure of all("main figure")) {
  figure.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    dragged = false;
    const move = (e) => {
      if (Math.abs(e.clientX - event.clientX) + Math.abs(e.clientY - event.clientY) > 4) dragged = true;
      if (!dragged) return;
      figure.scrollLeft -= e.movementX;
      window.scrollBy(0, -e.movementY);
    };
    const up = () => {
      document.removeEventListener("pointermove", move);
      document.removeEventListener("pointerup", up);
      setTimeout(() => (dragged = false));
    };
    document.addEventListener("pointermove", move);
    document.addEventListener("pointerup", up);
  });
}

let zoom = 1;
function scale(factor) {
  zoom = Math.min(4, Math.max(0.2, zoom * factor));
  document.documentElement.style.setProperty("--zoom", zoom);
}
at("larger").addEventListener("click", () => scale(1.25));
at("smaller").addEventListener("click", () => scale(0.8));
document.addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  scale(event.deltaY < 0 ? 1.1 : 1 / 1.1);
}, { passive: false });

const changes = all(".row.changed");
let current = -1;
function go(step) {
  if (!changes.length) return;
  if (current >= 0) changes[current].classList.remove("current");
  current = (current + step + changes.length) % changes.length;
  const row = changes[current];
  row.classList.add("current");
  open(row);
  row.scrollIntoView({ block: "start" });
  at("found").textContent = `change ${current + 1} of ${changes.length}`;
}
at("next").addEventListener("click", () => go(1));
at("previous").addEventListener("click", () => go(current < 0 ? 0 : -1));

let hits = [], hit = -1;
function search() {
  for (const box of hits) box.classList.remove("hit");
  const text = at("search").value.trim().toLowerCase();
  hits = text ? boxes.filter((box) => (box.dataset.name + " " + box.dataset.text).toLowerCase().includes(text)) : [];
  for (const box of hits) box.classList.add("hit");
  hit = -1;
  at("found").textContent = text ? `${hits.length} found` : "";
}
function nextHit(step) {
  if (!hits.length) return;
  hit = (hit + step + hits.length) % hits.length;
  show(hits[hit]);
  choose(hits[hit]);
  at("found").textContent = `${hit + 1} of ${hits.length}`;
}
at("search").addEventListener("input", search);
at("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") nextHit(event.shiftKey ? -1 : 1);
  if (event.key === "Escape") event.target.blur();
});

let everything = false;
function toggle() {
  everything = !everything;
  for (const details of all("main details")) details.open = everything || details.classList.contains("changed");
  at("all").textContent = everything ? "close" : "open all";
}
at("all").addEventListener("click", toggle);
window.addEventListener("beforeprint", () => all("main > details").forEach((d) => (d.open = true)));

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
  const box = event.target.closest(".box");
  if (box && (event.key === "Enter" || event.key === " ")) choose(box), event.preventDefault();
  else if (event.key === "n") go(1);
  else if (event.key === "p") go(current < 0 ? 0 : -1);
  else if (event.key === "/") at("search").focus(), event.preventDefault();
  else if (event.key === "+") scale(1.25);
  else if (event.key === "-") scale(0.8);
  else if (event.key === "0") scale(1 / zoom);
  else if (event.key === "o") toggle();
  else if (event.key === "Escape") close();
});

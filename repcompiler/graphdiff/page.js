"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const at = (id) => document.getElementById(id);
const data = JSON.parse(at("data").textContent);
const [NAME, TEXT, SHAPE, PARAMETERS, MACS, LINK, STATE, ROW, NOTES] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
const ids = ["b", "a"].flatMap((letter, side) => data.boxes[side].map((_, place) => letter + place));
const known = (id) => data.boxes[id[0] === "b" ? 0 : 1][id.slice(1)];
const links = new Map();
for (const id of ids) {
  const link = known(id)[LINK];
  if (!links.has(link)) links.set(link, []);
  links.get(link).push(id);
}
document.documentElement.classList.add("scripted");

// What is far away, or repeats what was seen, is in templates until someone comes near or asks for it.
function unpack(holder) {
  const template = holder && holder.querySelector(":scope > template");
  if (!template) return;
  template.replaceWith(template.content);
  for (const id of hits) mark(id, "hit", true);
  if (chosen) light(chosen, true);
}
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    unpack(target);
  }
}, { rootMargin: "1500px" });
const watch = (root) => all(".row", root).forEach((row) => row.querySelector(":scope > template") && near.observe(row));
function unfold(repeats) {
  if (!repeats || !repeats.querySelector(":scope > template")) return;
  unpack(repeats);
  watch(repeats);
}
document.addEventListener("toggle", (event) => {
  if (event.target.open && event.target.classList.contains("repeats")) unfold(event.target);
}, true);
function rowOf(index) {
  if (!at("row" + index)) unfold(at("repeats" + data.folded[index]));
  unpack(at("row" + index));
  return at("row" + index);
}
function box(id) {
  rowOf(known(id)[ROW]);
  return at(id);
}
function open(element) {
  for (let d = element.closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
}
function show(id) {
  const element = box(id);
  open(element);
  element.scrollIntoView({ block: "center", inline: "nearest" });
}

function mark(id, what, on) {
  const element = at(id);
  if (element) element.classList.toggle(what, on);
}
function light(link, on) {
  for (const id of links.get(link) || []) mark(id, "lit", on);
}
let chosen = null, from = null;
function unlight() {
  if (chosen) light(chosen, false);
  chosen = null;
}

function element(tag, text, name) {
  return Object.assign(document.createElement(tag), { textContent: text, className: name || "" });
}
function line(list, what, text) {
  if (text && text !== "0") list.append(element("dt", what), element("dd", text));
}
function describe(id) {
  const facts = known(id), list = element("dl", "");
  line(list, "operation", facts[TEXT]);
  line(list, "name", facts[NAME]);
  line(list, "shape", facts[SHAPE]);
  line(list, "parameters", facts[PARAMETERS].toLocaleString("en"));
  line(list, "MACs", facts[MACS].toLocaleString("en"));
  const state = element("p", data.states[facts[STATE]] + (id[0] === "b" ? ", before" : ", after"), "state " + facts[STATE]);
  const notes = (facts[NOTES] || []).map(([what, text]) => {
    const note = element("p", "", "why");
    note.append(element("b", what), " " + text);
    return note;
  });
  const told = "region-" + facts[LINK];
  const article = at(told) || at("alike").content.getElementById(told) || at("later").content.getElementById(told);
  const copy = article ? article.cloneNode(true) : element("article", "");
  copy.removeAttribute("id");
  all(".more, .why", copy).forEach((p) => p.remove()); // for print; the box itself has told
  for (const name of all("[data-rule]", copy)) name.append(at("rule-" + name.dataset.rule).querySelector("div").cloneNode(true));
  at("node").replaceChildren(state, list, ...notes, copy);
  at("panel").scrollTop = 0;
}
function choose(id) {
  const element = box(id), { top } = element.getBoundingClientRect();
  unlight();
  [chosen, from] = [known(id)[LINK], element];
  light(chosen, true);
  describe(id);
  at("panel").hidden = false;
  document.body.classList.add("telling");
  const other = links.get(chosen).find((each) => each[0] !== id[0]);
  if (other) open(box(other));
  window.scrollBy(0, element.getBoundingClientRect().top - top); // what was clicked stays where it is
}
function close() {
  at("panel").hidden = true;
  document.body.classList.remove("telling");
  unlight();
  if (from) from.focus({ preventScroll: true });
}

document.addEventListener("mouseover", (event) => {
  const over = event.target.closest(".box");
  if (over) light(over.dataset.link, true);
});
document.addEventListener("mouseout", (event) => {
  const over = event.target.closest(".box");
  if (over && over.dataset.link !== chosen) light(over.dataset.link, false);
});
let dragged = false;
document.addEventListener("click", (event) => {
  if (dragged) return;
  const clicked = event.target.closest(".box"), port = event.target.closest(".port"), go = event.target.closest("[data-go]");
  const id = clicked ? clicked.id : port ? port.dataset.to : go ? go.dataset.go : null;
  if (!id) return;
  if (!clicked) show(id);
  choose(id);
});
at("close").addEventListener("click", close);

// Pan: drag a picture; both sides of a row, and the page, move.
document.addEventListener("pointerdown", (event) => {
  const figure = event.target.closest("main figure");
  if (!figure || event.button) return;
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

let current = -1;
function go(step) {
  const count = data.changed.length;
  if (!count) return;
  if (current >= 0) rowOf(data.changed[current]).classList.remove("current");
  current = current < 0 ? (step > 0 ? 0 : count - 1) : (current + step + count) % count;
  const row = rowOf(data.changed[current]);
  row.classList.add("current");
  open(row);
  row.scrollIntoView({ block: "start" });
  at("found").textContent = `change ${current + 1} of ${count}`;
}
at("next").addEventListener("click", () => go(1));
at("previous").addEventListener("click", () => go(-1));

const said = (id) => [data.states[known(id)[STATE]], ...(known(id)[NOTES] || []).map(([what]) => what)]; // whole words alone
let hits = [], hit = -1, texts = null;
function search() {
  for (const id of hits) mark(id, "hit", false);
  texts = texts || ids.map((id) => (known(id)[NAME] + " " + known(id)[TEXT]).toLowerCase());
  const wanted = at("search").value.trim().toLowerCase();
  hits = wanted ? ids.filter((id, index) => texts[index].includes(wanted) || said(id).includes(wanted)) : [];
  for (const id of hits) mark(id, "hit", true);
  hit = -1;
  at("found").textContent = wanted ? `${hits.length} found` : "";
}
function nextHit(step) {
  if (!hits.length) return;
  hit = (hit + step + hits.length) % hits.length;
  show(hits[hit]);
  choose(hits[hit]);
  at("found").textContent = `${hit + 1} of ${hits.length}`;
}
at("search").addEventListener("input", search);
document.querySelector(".legend").addEventListener("click", (event) => {
  const wanted = event.target.dataset.find;
  if (!wanted) return;
  if (at("search").value !== wanted) at("search").value = wanted, search();
  nextHit(1);
});
at("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") nextHit(event.shiftKey ? -1 : 1);
  if (event.key === "Escape") event.target.blur();
});

let everything = false;
function toggle() {
  everything = !everything;
  if (everything) all(".repeats").forEach(unfold);
  for (const details of all("main details")) details.open = everything || details.classList.contains("changed");
  at("all").textContent = everything ? "close" : "open all";
}
at("all").addEventListener("click", toggle);

// Arrows: to the neighbour on the same side, or to the counterpart.
function neighbour(focused, key) {
  const side = focused.id[0];
  if (key === "ArrowLeft" || key === "ArrowRight") {
    const other = links.get(focused.dataset.link).find((id) => id[0] !== side);
    return (key === "ArrowRight") === (side === "b") && other ? box(other) : null;
  }
  return at(side + (Number(focused.id.slice(1)) + (key === "ArrowDown" ? 1 : -1)));
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
  const focused = event.target.closest(".box");
  if (focused && (event.key === "Enter" || event.key === " ")) choose(focused.id), event.preventDefault();
  else if (focused && event.key.startsWith("Arrow")) {
    const next = neighbour(focused, event.key);
    if (next) open(next), next.focus();
    event.preventDefault();
  } else if (event.key === "n") go(1);
  else if (event.key === "p") go(-1);
  else if (event.key === "/") at("search").focus(), event.preventDefault();
  else if (event.key === "+") scale(1.25);
  else if (event.key === "-") scale(0.8);
  else if (event.key === "0") scale(1 / zoom);
  else if (event.key === "o") toggle();
  else if (event.key === "Escape") close();
});

watch(document);
window.addEventListener("beforeprint", () => {
  all("main > .row").forEach(unpack);
  if (at("further")) at("further").replaceWith(at("later").content.cloneNode(true));
});

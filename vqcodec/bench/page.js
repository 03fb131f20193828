// ---- Elements and numbers. Text from the data reaches the page only as text nodes and attributes.

const $ = (id) => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}
const el = (tag, attributes, ...children) =>
  fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const isNumber = (x) => typeof x === "number";
const fixed = (x, digits) => (isNumber(x) ? x.toFixed(digits).replace("-", "\u2212") : "\u2013");
const signed = (x, digits) => (isNumber(x) && x > 0 ? "+" : "") + fixed(x, digits);
const whole = (x) => (isNumber(x) ? Math.round(x).toLocaleString("en") : "\u2013");
const plural = (n, word) => `${whole(n)} ${word}${n === 1 ? "" : "s"}`;
const figures = (x) =>  // three of them
  isNumber(x) ? fixed(x, x >= 99.95 || x === 0 ? 0 : x >= 9.995 ? 1 : x >= 0.9995 ? 2 : 3) : "\u2013";
const bppText = (x) => fixed(x, x < 0.0995 ? 4 : 3);
const bppOf = (bytes, image) => (8 * bytes) / (image.width * image.height);
const mean = (list) => list.reduce((sum, x) => sum + x, 0) / list.length;

function options(select, items, chosen) {
  select.replaceChildren(...items.map(([value, text]) => el("option", { value }, text)));
  select.value = chosen;
}

/** A table under a caption, which stands outside: a <caption> is as wide as the table.
 *
 * Of class "cards" each row becomes a block on phones; others are narrow enough for them. */
function table(place, caption, head, rows, kind = "cards") {
  const name = el("p", { class: "caption", id: `${place.id}-name` }, caption);
  const names = [...head.cells].map((cell) => cell.textContent);
  for (const row of rows) {
    [...row.cells].forEach((cell, i) => {
      if (cell.tagName === "TD") cell.dataset.name = names[i];
    });
  }
  const box = el("div", { class: "scroll" }, el("table", { class: kind, "aria-labelledby": name.id },
    el("thead", {}, head), el("tbody", {}, rows)));
  place.replaceChildren(name, box);
}
const headRow = (...cells) => el("tr", {}, cells);
const col = (text, more) => el("th", { scope: "col", ...more }, text);
const rowHead = (text, more) => el("th", { scope: "row", ...more }, text);
const td = (content, more) => el("td", more, el("span", {}, content));

// ---- The slider between two pictures: #left-img over #right-img in #stage, and #divider.

/** zoomed(): whether the picture is larger than its view, which a finger then scrolls. */
function startSlider(zoomed) {
  let split = 50;
  function setSplit(percent) {
    split = Math.min(100, Math.max(0, percent));
    const shown = Math.round(split);
    $("left-img").style.clipPath = `inset(0 ${100 - split}% 0 0)`;
    $("divider").style.left = `${split}%`;
    $("divider").setAttribute("aria-valuenow", shown);
    $("divider").setAttribute("aria-valuetext", `left picture on ${shown} % of the width`);
  }
  const stage = $("stage"), divider = $("divider");
  const follow = (event) => {
    const frame = stage.getBoundingClientRect();
    setSplit((100 * (event.clientX - frame.left)) / frame.width);
  };
  let dragging = false;
  stage.addEventListener("pointerdown", (event) => {
    // A finger on a zoomed picture scrolls it, unless it takes the divider.
    if (zoomed() && event.pointerType === "touch" && !divider.contains(event.target)) return;
    if (event.button !== 0) return;
    event.preventDefault();
    divider.focus({ preventScroll: true });
    dragging = true;
    follow(event);
  });
  // On the window: the pointer may leave the picture, and even the window, while it drags.
  window.addEventListener("pointermove", (event) => { if (dragging) follow(event); });
  for (const end of ["pointerup", "pointercancel", "blur"]) {
    window.addEventListener(end, () => { dragging = false; });
  }
  divider.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 1;
    const steps = { ArrowLeft: -step, ArrowDown: -step, ArrowRight: step, ArrowUp: step,
      PageDown: -10, PageUp: 10, Home: -100, End: 100 };
    if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    setSplit(Math.round(split) + steps[event.key]);
  });
  setSplit(split);
}

/** The size of #stage for a picture of width x height pixels: 0 fits the page, 2 is 200 %. */
function zoomTo(width, height, zoom) {
  const stage = $("stage");
  stage.style.width = `${width * (zoom || 1)}px`;
  stage.style.maxWidth = zoom ? "none" : "100%";
  stage.style.aspectRatio = `${width} / ${height}`;
  stage.classList.toggle("pixels", zoom > 1);
  $("view").classList.toggle("zoomed", zoom > 0);
  $("sides").style.maxWidth = `max(${width}px, 34rem)`;
}

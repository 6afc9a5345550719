// Making elements without ever parsing text as HTML: what comes from file names or the server stays text.
//
//   h("p", { class: "soft", text: () => t("photo", { n: 3 }) })
//
// A property that is a function is live: it is evaluated again when the language changes.

const live = new WeakMap(); // element -> Map(property -> function that gives its value)
const SVG = "http://www.w3.org/2000/svg";

/** One element. `on` maps events to listeners; `text` is its text; everything else is an attribute (true, false, value). */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (typeof value === "function") {
      bind(element, name, value);
    } else {
      assign(element, name, value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Keep a property of an element at what `give` says in the language of the moment. */
export function bind(element, name, give) {
  if (!live.has(element)) live.set(element, new Map());
  live.get(element).set(name, give);
  element.toggleAttribute("data-live", true);
  assign(element, name, give());
}

/** Evaluate every live property under `root` again. */
export function refresh(root = document) {
  for (const element of root.querySelectorAll("[data-live]")) {
    for (const [name, give] of live.get(element) ?? []) assign(element, name, give());
  }
}

function assign(element, name, value) {
  if (name === "text") {
    element.textContent = value;
  } else if (value === false || value === null || value === undefined) {
    element.removeAttribute(name);
  } else {
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

/** An icon of the sheet in index.html; only decoration, never the name of a control. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** The element with this id; a typing error shows itself at once. */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no #${id}`);
  return element;
}

let spoken = 0;

/** Have a screen reader say this when it has finished its sentence. */
export function say(text) {
  const region = byId("live");
  spoken += 1;
  // The same sentence twice must be said twice: a no-break space makes the text another one.
  region.textContent = spoken % 2 ? text : `${text}\u00a0`;
}

/** Calls `action` once, `ms` after the last of a series of calls. */
export function debounce(action, ms) {
  let timer = 0;
  const later = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), ms);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

/** Arrow keys, Home and End move the focus along `items()`; one of them is in the tab order at a time. */
export function rove(container, items, onMove = () => {}) {
  container.addEventListener("keydown", (event) => {
    const list = items();
    const here = list.indexOf(document.activeElement);
    if (here < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    let next = null;
    if (step) next = list[(here + step + list.length) % list.length];
    else if (event.key === "Home") next = list[0];
    else if (event.key === "End") next = list[list.length - 1];
    if (!next) return;
    event.preventDefault();
    for (const item of list) item.tabIndex = item === next ? 0 : -1;
    next.focus();
    onMove(next);
  });
}

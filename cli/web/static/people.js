// The third tab: who is on photos (asked.js), whom the server knows, and changes to that (person.js, enrol.js).

import { call } from "./api.js";
import { learnAsked, openAsked, takePhotos } from "./asked.js";
import { bind, byId, debounce, h, say } from "./dom.js";
import { openEnrol } from "./enrol.js";
import { number, t } from "./i18n.js";
import { shownName } from "./intake.js";
import { clearNotices, errorNotice } from "./notices.js";
import { openPerson } from "./person.js";

const AT_ONCE = 48; // people that are shown, and faces that are asked for, at a time

const notices = byId("notice-known");
const section = byId("known");
const list = byId("people");
const filter = byId("people-filter");
const add = byId("person-add");
const more = byId("people-more");

let server = null;
let known = null; // the answer of /people
let shown = AT_ONCE;
const pictures = new Map(); // name -> data: address, or null where there is none

/** Wire the tab up. */
export function openPeople() {
  openAsked({ names: () => names(), mayChange, onEnrol: (file) => enrol(file) });
  add.addEventListener("click", () => enrol(null));
  const again = debounce(() => say(countText()), 600);
  filter.addEventListener("input", () => {
    shown = AT_ONCE;
    draw();
    again();
  });
  more.addEventListener("click", () => {
    const first = shown;
    shown += AT_ONCE;
    draw();
    list.children[first]?.querySelector("button").focus();
  });
  offer();
}

/** What the server can do: without a gallery it knows nobody. */
export function learnServer(health) {
  server = health;
  learnAsked(health);
  offer();
}

/** The tab is seen: who is known may have changed. */
export function shownPeople() {
  if (server?.people !== null && server?.people !== undefined) load();
}

export { takePhotos };

function offer() {
  const none = server !== null && (server.people ?? null) === null;
  section.hidden = server === null || none;
}

function names() {
  return known?.people.map((one) => one.name) ?? [];
}

function mayChange() {
  return known?.role === "write";
}

/** Ask whom the server knows, and show them. */
async function load() {
  clearNotices(notices);
  section.setAttribute("aria-busy", "true");
  try {
    known = await call("api/v1/people");
    add.hidden = !mayChange();
    draw();
  } catch (error) {
    errorNotice(notices, error, load);
  } finally {
    section.removeAttribute("aria-busy");
  }
}

function matching() {
  const wanted = filter.value.trim().normalize("NFC").toLowerCase();
  return known.people.filter((one) => one.name.toLowerCase().includes(wanted));
}

function countText() {
  if (!known) return "";
  const found = matching().length;
  if (known.people.length === 0) return t(mayChange() ? "people.nobody_yet" : "people.nobody");
  return found === known.people.length ? t("people.count", { n: found }) : t("people.matching", { n: found, all: number(known.people.length) });
}

function draw() {
  const found = matching();
  const part = found.slice(0, shown);
  list.replaceChildren(...part.map(entry));
  list.hidden = part.length === 0;
  more.hidden = found.length <= shown;
  byId("people-find").hidden = known.people.length < 2;
  bind(byId("people-count"), "text", countText);
  picture(part.map((one) => one.name).filter((name) => !pictures.has(name)));
}

function entry(person) {
  const words = h("span", { class: "words" }, h("span", { class: "name clip", text: shownName(person.name) }), h("span", { class: "soft", text: () => t("people.photos", { n: person.photos }) }));
  const button = h("button", { type: "button", class: "person", "aria-haspopup": "dialog", on: { click: () => open(person.name) } }, portrait(person.name), words);
  return h("li", {}, button);
}

/** Somebody's face, or the first letter of their name where the server has no picture. */
function portrait(name) {
  const address = pictures.get(name);
  const place = address
    ? h("img", { class: "portrait", src: address, alt: "" })
    : h("span", { class: "portrait letter", "aria-hidden": "true", text: [...shownName(name)][0].toUpperCase() });
  place.dataset.of = name;
  return place;
}

async function picture(wanted) {
  for (let at = 0; at < wanted.length; at += AT_ONCE) {
    const query = new URLSearchParams(wanted.slice(at, at + AT_ONCE).map((name) => ["name", name]));
    let answer = null;
    try {
      answer = await call(`api/v1/pictures?${query}`);
    } catch {
      return; // letters stand for faces, and the list says what is wrong when it is asked for again
    }
    for (const [name, address] of Object.entries(answer.pictures)) pictures.set(name, address);
  }
  if (wanted.length === 0) return;
  for (const place of list.querySelectorAll(".letter")) {
    if (pictures.get(place.dataset.of)) place.replaceWith(portrait(place.dataset.of));
  }
}

function open(name) {
  openPerson({ name, names: names(), mayChange: mayChange(), onChange: changed });
}

function enrol(file) {
  openEnrol({ file, names: names(), limits: server?.limits, onChange: changed });
}

/** Somebody was changed: `text` is said, and everything is asked anew. `name` is who to go on from, if they are there still. */
async function changed(text, name) {
  pictures.clear();
  say(text);
  await load();
  await takePhotos([]);
  const at = [...list.querySelectorAll(".person .portrait")].find((place) => place.dataset.of === name);
  (at?.closest("button") ?? (add.hidden ? byId("tab-people") : add)).focus();
}

// Who is on photos: cards with a box round each face, and a name or "unknown" for each.

import { call } from "./api.js";
import { openCamera } from "./camera.js";
import { bind, byId, h, icon, refresh, say } from "./dom.js";
import { number, t } from "./i18n.js";
import { openDialog, shownName, sift } from "./intake.js";
import { clearNotices, errorNotice, errorText, problemNotice, reasonText } from "./notices.js";
import { similarityText } from "./verdict.js";

const DEFAULT_MOST = 10;

const notices = byId("notice-people");
const area = byId("drop-people");
const asked = byId("asked");
const list = byId("asked-photos");
const summary = byId("asked-summary");

let server = null;
let request = null;
let people = { mayChange: () => false, onEnrol: () => {} };
const cards = [];

/** Wire the way in up. `mayChange()` says whether photos can be added to people, `onEnrol(file)` is told to. */
export function openAsked(given) {
  people = given;
  openDialog({ button: byId("choose-people"), area, input: byId("files-people"), take: takePhotos });
  byId("camera-people").addEventListener("click", () => openCamera((file) => takePhotos([file])));
  byId("clear-people").addEventListener("click", clear);
  offer();
}

/** What the server can do. */
export function learnAsked(health) {
  server = health;
  offer();
}

function nobody() {
  return server !== null && (server.people ?? null) === null;
}

function offer() {
  const none = nobody();
  area.classList.toggle("off", none);
  for (const id of ["choose-people", "camera-people"]) byId(id).disabled = none;
  byId("people-actions").hidden = none;
  bind(byId("people-lead"), "text", () => {
    if (none) return t("people.no_gallery");
    return server ? t("people.lead", { n: server.people }) : t("people.lead_unknown");
  });
  bind(byId("hint-people"), "text", hint);
}

function hint() {
  const most = server?.limits?.photos ?? DEFAULT_MOST;
  return cards.length === 0 ? t("people.hint", { n: most }) : t("compare.more", { n: cards.length, most });
}

/** Ask who is on these files and on those that are there; without files, on those alone. */
export async function takePhotos(files) {
  if (nobody()) return;
  const most = server?.limits?.photos ?? DEFAULT_MOST;
  if (files.length > 0) clearNotices(notices);
  const sent = cards.reduce((sum, card) => sum + card.file.size, 0);
  const { good, problems } = sift(files, { room: most - cards.length, most, sent, limits: server?.limits });
  for (const problem of problems) problemNotice(notices, problem);
  for (const file of good) {
    const card = new Asked(file, () => remove(card));
    cards.push(card);
    list.append(card.element);
  }
  changed();
  if (cards.length > 0) await identify();
}

function changed() {
  for (const [index, card] of cards.entries()) card.place(index + 1);
  const any = cards.length > 0;
  area.classList.toggle("compact", any);
  asked.hidden = !any;
  byId("clear-people").hidden = !any;
  bind(byId("hint-people"), "text", hint);
}

function remove(card) {
  const index = cards.indexOf(card);
  cards.splice(index, 1);
  card.remove();
  say(t("card.removed", { name: card.name }));
  const next = cards[Math.min(index, cards.length - 1)];
  (next ? next.element.querySelector(".remove") : byId("choose-people")).focus();
  changed();
  tell();
}

function clear() {
  request?.abort();
  for (const card of cards.splice(0)) card.remove();
  clearNotices(notices);
  say(t("cleared"));
  byId("choose-people").focus();
  changed();
}

async function identify() {
  request?.abort();
  const mine = new AbortController();
  request = mine;
  asked.setAttribute("aria-busy", "true");
  bind(summary, "text", () => t("people.working"));
  const whole = cards.filter((card) => !card.broken);
  try {
    if (whole.length > 0) {
      const answer = await call("api/v1/identify", { form: () => form(whole), signal: mine.signal });
      if (mine.signal.aborted) return;
      for (const [index, card] of whole.entries()) card.show(answer.photos[index], people);
      asked.dataset.threshold = answer.threshold;
    }
    tell();
    say(summaryText());
  } catch (error) {
    if (mine.signal.aborted) return;
    const bad = whole.find((card) => `photo-${card.number}` === error.photo);
    if (bad) {
      bad.fail(() => errorText(error));
      await identify(); // the others, without it
      return;
    }
    for (const card of whole) card.busy(false);
    bind(summary, "text", () => "");
    errorNotice(notices, error, identify);
  } finally {
    if (request === mine) asked.removeAttribute("aria-busy");
  }
}

function form(whole) {
  const form = new FormData();
  for (const card of whole) form.append("photos", card.file, `photo-${card.number}`);
  return form;
}

function tell() {
  bind(summary, "text", summaryText);
}

function summaryText() {
  const faces = cards.flatMap((card) => card.faces);
  const said = [t("people.faces", { n: faces.length })];
  const strangers = faces.filter((face) => face.name === null).length;
  if (strangers > 0) said.push(t("people.strangers", { n: strangers }));
  if (asked.dataset.threshold) said.push(t("people.threshold", { value: number(Number(asked.dataset.threshold), 3) }));
  return said.join(" · ");
}

/** One photo of the question. */
class Asked {
  constructor(file, onRemove) {
    this.file = file;
    this.name = shownName(file.name);
    this.number = 0;
    this.faces = [];
    this.broken = false;
    this.address = URL.createObjectURL(file);
    const title = () => t("card.picture", { n: this.number, name: this.name });
    this.picture = h("img", { class: "picture", src: this.address, alt: title, decoding: "async" });
    this.picture.addEventListener("load", () => this.shape(this.picture.naturalWidth, this.picture.naturalHeight));
    this.picture.addEventListener("error", () => this.element.classList.add("blind", "none")); // TIFF, which browsers cannot show
    this.boxes = h("div", { class: "boxes", "aria-hidden": "true" });
    this.fit = h("div", { class: "fit" }, this.picture, this.boxes);
    this.facts = h("div", { class: "facts" });
    const heading = h("h3", { class: "name", title: this.name }, h("span", { class: "sr", text: () => `${t("photo", { n: this.number })}: ` }));
    heading.append(h("span", { class: "clip soft", text: this.name }));
    const label = () => t("card.remove", { n: this.number, name: this.name });
    const remove = h("button", { type: "button", class: "round remove", "aria-label": label, on: { click: onRemove } }, icon("close"));
    this.element = h(
      "li",
      { class: "photo" },
      h("div", { class: "frame" }, icon("noface"), this.fit),
      h("div", { class: "about" }, h("div", { class: "words" }, this.facts, heading)),
      remove,
    );
    this.busy(true);
  }

  place(value) {
    this.number = value;
    refresh(this.element);
  }

  shape(width, height) {
    this.fit.classList.toggle("tall", width / height < 4 / 3);
    this.fit.style.setProperty("aspect-ratio", `${width} / ${height}`);
  }

  busy(on) {
    this.element.classList.toggle("busy", on);
  }

  /** What the server says of it. */
  show(photo, { mayChange, onEnrol }) {
    this.busy(false);
    this.faces = photo.faces;
    if (photo.width && photo.height) this.shape(photo.width, photo.height);
    this.boxes.replaceChildren(...photo.faces.map((face, index) => this.box(face, index, photo)));
    if (photo.faces.length === 0) {
      this.why(() => reasonText(photo.reason_code, photo.reason ?? ""));
      return;
    }
    const rows = photo.faces.map((face, index) => this.row(face, index));
    this.facts.replaceChildren(h("ol", { class: "who" }, ...rows));
    if (photo.faces.length === 1 && mayChange()) {
      const text = () => t(photo.faces[0].name === null ? "people.who_is_it" : "people.add_photo");
      const label = () => `${text()}: ${t("photo.named", { n: this.number, name: this.name })}`;
      const enrol = h("button", { type: "button", class: "plain small", text, "aria-label": label, on: { click: () => onEnrol(this.file) } });
      this.facts.append(enrol);
    }
  }

  box(face, index, { width, height }) {
    const box = h("span", { class: face.name === null ? "box stranger" : "box on" });
    if (this.faces.length > 1) box.append(h("span", { class: "badge", text: String(index + 1) }));
    const percent = (value, whole) => `${(100 * value) / whole}%`;
    const [x, y, w, tall] = face.box;
    for (const [side, value] of [["left", percent(x, width)], ["top", percent(y, height)], ["width", percent(w, width)], ["height", percent(tall, height)]]) {
      box.style.setProperty(side, value);
    }
    return box;
  }

  row(face, index) {
    const best = face.candidates[0];
    const name = h("span", { class: "whose" });
    if (this.faces.length > 1) name.append(h("span", { class: "nth", "aria-hidden": "true", text: `${index + 1} ` }));
    if (face.name === null) {
      name.append(h("span", { class: "nobody", text: () => t("people.unknown") }));
      if (best) name.append(h("span", { class: "soft", text: () => ` ${t("people.nearest", { name: shownName(best.name), similarity: similarityText(best.similarity) })}` }));
    } else {
      name.append(h("b", { text: shownName(face.name) }), h("span", { class: "soft", text: () => ` ${similarityText(best.similarity)}` }));
    }
    return h("li", {}, name);
  }

  why(text) {
    this.element.classList.add("none");
    this.facts.replaceChildren(h("p", { class: "reason" }, icon("noface"), h("span", { text })));
  }

  /** It could not be used at all. */
  fail(text) {
    this.broken = true;
    this.faces = [];
    this.busy(false);
    this.why(text);
  }

  remove() {
    URL.revokeObjectURL(this.address);
    this.element.remove();
  }
}

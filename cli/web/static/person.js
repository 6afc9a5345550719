// A dialog about one person: their photos, another name, two who are one, one who is two, and the end of it.

import { call } from "./api.js";
import { bind, byId, h, say } from "./dom.js";
import { number, t } from "./i18n.js";
import { shownName } from "./intake.js";
import { clearNotices, errorNotice } from "./notices.js";

const dialog = byId("person-dialog");
const notices = byId("notice-person");
const photos = byId("person-photos");
const rename = byId("rename-form");
const split = byId("split-form");
const question = byId("person-question");
const newName = byId("rename-name");
const otherName = byId("split-name");

let person = { name: "", names: [], onChange: () => {} };
let url = "";

rename.addEventListener("submit", (event) => {
  event.preventDefault();
  change({ to: newName.value, body: {}, path: url, method: "PATCH", merged: "person.merge_ask", done: "person.renamed" });
});
split.addEventListener("submit", (event) => {
  event.preventDefault();
  change({ to: otherName.value, body: { ids: chosen() }, path: `${url}/split`, method: "POST", merged: "person.move_ask", done: "person.moved" });
});
byId("person-delete").addEventListener("click", () => {
  ask(() => t("person.delete_ask", { name: shownName(person.name) }), () => t("person.delete_yes"), () => act("person.deleted", person.name, { method: "DELETE" }));
});

/** Open it. `names` are those of everybody; `onChange(text, name)` hears what became of it, and who to go on from. */
export async function openPerson({ name, names, mayChange, onChange }) {
  person = { name, names, onChange };
  url = `api/v1/people/${encodeURIComponent(name)}`;
  bind(byId("person-title"), "text", () => shownName(name));
  byId("known-names").replaceChildren(...names.filter((one) => one !== name).map((one) => h("option", { value: one })));
  for (const element of [rename, byId("person-delete")]) element.hidden = !mayChange;
  newName.value = name;
  otherName.value = "";
  photos.replaceChildren();
  split.hidden = true;
  bind(byId("person-hint"), "text", () => t("person.loading"));
  clearNotices(notices);
  forget();
  if (!dialog.open) dialog.showModal();
  await load(mayChange);
}

async function load(mayChange) {
  try {
    const answer = await call(url);
    const many = answer.photos.length > 1;
    photos.replaceChildren(...answer.photos.map((photo, index) => entry(photo, index, mayChange && many)));
    bind(byId("person-hint"), "text", () => t(many ? (mayChange ? "person.hint" : "person.hint_read") : "person.one"));
    count();
  } catch (error) {
    bind(byId("person-hint"), "text", () => "");
    errorNotice(notices, error, () => load(mayChange));
  }
}

function entry(photo, index, choice) {
  const name = () => (photo.file === null ? t("person.sent", { n: index + 1 }) : photo.file);
  const picture = photo.picture ? h("img", { src: photo.picture, alt: "" }) : h("span", { class: "no-picture", text: () => (photo.file === null ? t("person.not_kept") : t("search.no_picture")) });
  const words = [h("span", { class: "clip", text: name })];
  if (photo.reason !== null) words.push(h("span", { class: "unusable", lang: "en", text: photo.reason }));
  else if (photo.alike !== null) words.push(h("span", { class: "soft", text: () => t("person.alike", { value: number(photo.alike, 3) }) }));
  const caption = h("span", { class: "words" }, ...words);
  if (!choice) return h("li", { class: "own" }, picture, caption);
  const box = h("input", { type: "checkbox", value: photo.id, on: { change: count } });
  return h("li", { class: "own" }, h("label", {}, picture, h("span", { class: "choice" }, box, caption)));
}

function chosen() {
  return [...photos.querySelectorAll("input:checked")].map((box) => box.value);
}

/** As many photos as are chosen can be given to somebody else. */
function count() {
  const n = chosen().length;
  const all = photos.querySelectorAll("input").length;
  split.hidden = n === 0;
  byId("split-send").disabled = n === all;
  bind(byId("split-label"), "text", () => (n > 0 && n === all ? t("person.all") : t("person.whose", { n })));
}

/** A change to another name; where somebody has it, only after a question. */
function change({ to, body, path, method, merged, done }) {
  const name = to.trim().normalize("NFC");
  const send = (merge) => act(done, name, { path, method, json: { name, merge, ...body } });
  if (name === "" || name === person.name) return;
  if (!person.names.includes(name)) {
    send(false);
    return;
  }
  ask(() => t(merged, { name: shownName(person.name), other: shownName(name) }), () => t("person.merge_yes"), () => send(true));
}

async function act(done, next, { path = url, method, json = null }) {
  clearNotices(notices);
  forget();
  try {
    await call(path, { method, json });
    const text = t(done, { name: shownName(person.name), other: shownName(next) });
    dialog.close();
    person.onChange(text, next);
  } catch (error) {
    errorNotice(notices, error, null);
  }
}

/** A question before what cannot be taken back. */
function ask(text, yes, go) {
  clearNotices(notices);
  const cancel = () => {
    forget();
    newName.focus();
  };
  const agree = h("button", { type: "button", class: "primary", text: yes, on: { click: go } });
  const refuse = h("button", { type: "button", class: "plain", text: () => t("cancel"), on: { click: cancel } });
  question.replaceChildren(h("p", { text }), h("div", { class: "dialog-actions" }, agree, refuse));
  question.hidden = false;
  say(text());
  agree.focus();
}

function forget() {
  question.hidden = true;
  question.replaceChildren();
}

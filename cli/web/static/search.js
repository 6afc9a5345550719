// The second tab: one photo against the index that the server was started with.

import { call } from "./api.js";
import { openCamera } from "./camera.js";
import { Card } from "./card.js";
import { bind, byId, debounce, h, icon, say } from "./dom.js";
import { number, t } from "./i18n.js";
import { openDialog, shownName, sift } from "./intake.js";
import { clearNotices, errorNotice, problemNotice } from "./notices.js";
import { alteredText, realLine, similarityText, verdict, verdictLabel } from "./verdict.js";

const notices = byId("notice-search");
const found = byId("found");
const area = byId("drop-search");
const count = byId("k");

let server = null;
let card = null;
let request = null;

const summary = h("p", { class: "summary" });
const hits = h("ol", { class: "hits" });
const query = h("ul", { class: "photos" });
found.append(
  h("div", { class: "query" }, h("h2", { class: "sr", text: () => t("search.query") }), query),
  h("div", { class: "answers" }, h("div", { class: "heading" }, h("h2", { text: () => t("search.results") }), summary), hits),
);

/** Wire the tab up. */
export function openSearch() {
  openDialog({ button: byId("choose-search"), area, input: byId("files-search"), take: searchPhoto });
  byId("camera-search").addEventListener("click", () => openCamera((file) => searchPhoto([file])));
  const again = debounce(search, 300);
  count.addEventListener("input", () => {
    count.setAttribute("aria-invalid", String(!count.validity.valid || count.value === ""));
    if (card && count.validity.valid && count.value !== "") again();
  });
  offer();
}

/** What the server can do: without an index there is nothing to search. */
export function learnServer(health) {
  server = health;
  offer();
}

function offer() {
  const none = server !== null && !server.index;
  area.classList.toggle("off", none);
  for (const id of ["choose-search", "camera-search", "k"]) byId(id).disabled = none;
  byId("search-actions").hidden = none;
  bind(byId("search-lead"), "text", () => {
    if (none) return t("search.no_index");
    return server ? t("search.lead", { n: server.index.faces }) : t("search.lead_unknown");
  });
  bind(byId("hint-search"), "text", () => t("search.hint"));
}

/** Search with the first of these files. */
export function searchPhoto(files) {
  if (server && !server.index) return;
  clearNotices(notices);
  const { good, problems } = sift(files, { room: 1, most: 1, limits: server?.limits });
  for (const problem of problems) problemNotice(notices, problem);
  if (good.length === 0) return;
  card?.remove();
  const mine = new Card(good[0], { onRemove: clear, onChoose: () => search() });
  card = mine;
  query.append(card.element);
  card.place(1);
  area.classList.add("compact");
  hits.replaceChildren();
  search();
}

function clear() {
  request?.abort();
  card?.remove();
  card = null;
  hits.replaceChildren();
  found.hidden = true;
  area.classList.remove("compact");
  clearNotices(notices);
  say(t("cleared"));
  byId("choose-search").focus();
}

async function search() {
  clearNotices(notices);
  request?.abort();
  const mine = new AbortController();
  request = mine;
  found.hidden = false;
  found.setAttribute("aria-busy", "true");
  bind(summary, "text", () => t("search.working"));
  try {
    const answer = await call("api/v1/search", { form, signal: mine.signal });
    if (!mine.signal.aborted) show(answer);
  } catch (error) {
    if (!mine.signal.aborted) fail(error);
  } finally {
    if (request === mine) found.removeAttribute("aria-busy");
  }
}

function form() {
  const form = new FormData();
  form.append("photo", card.file, "photo-1");
  form.append("k", count.validity.valid && count.value ? count.value : "12");
  if (card.wanted !== null) form.append("face", String(card.wanted));
  return form;
}

function fail(error) {
  card.busy(false);
  hits.replaceChildren();
  bind(summary, "text", () => "");
  if (error.code === "no_face") card.fail(error.message, error.code);
  errorNotice(notices, error, search);
}

function show(answer) {
  const photo = answer.photo ?? { faces: answer.face ? [answer.face] : [], chosen: answer.face ? 0 : null, reason: null };
  card.show(photo, 0);
  const threshold = answer.threshold ?? server?.threshold ?? null;
  hits.replaceChildren(...answer.hits.map((hit, index) => entry(hit, index, threshold, answer.face)));
  const said = () => (photo.chosen === null ? t("search.no_face") : summaryText(answer.hits, threshold));
  bind(summary, "text", said);
  say(said());
}

function summaryText(list, threshold) {
  const same = list.filter((hit) => verdict(hit.similarity, threshold) === "same").length;
  if (threshold === null) return t("search.found", { n: list.length });
  return t("search.found_same", { n: list.length, same: number(same), threshold: number(threshold, 3) });
}

function entry(hit, index, threshold, face) {
  const kind = verdict(hit.similarity, threshold);
  const path = shownName(hit.path);
  const cut = path.lastIndexOf("/") + 1;
  const picture = hit.thumbnail
    ? h("img", { src: hit.thumbnail, alt: () => t("search.picture", { n: index + 1 }), loading: "lazy" })
    : h("span", { class: "gone" }, icon("noface"), h("span", { class: "sr", text: () => t("search.no_picture") }));
  const name = h("p", { class: "path", title: path }, h("span", { class: "folder", text: path.slice(0, cut) }), h("span", { class: "file", text: path.slice(cut) }));
  if (hit.face > 0) name.append(h("span", { class: "soft", text: () => ` ${t("search.face", { n: hit.face + 1 })}` }));
  const figure = h("p", { class: "figure", text: () => similarityText(hit.similarity) });
  const words = h("div", { class: "words" }, figure, verdictLabel(kind, server?.resists_fakes), ...looks(hit, threshold, face), name);
  return h("li", { class: `hit ${kind}` }, picture, words);
}

/** What a gated model says of a hit: how alike it is by identity alone, how real it looks, and where the two disagree. */
function looks(hit, threshold, face) {
  const { similarity, identity } = hit;
  const names = [() => t("fake.query"), (real) => t("fake.hit", { real })];
  const altered = () => alteredText({ similarity, identity, faces: [face, hit], threshold }, names);
  if (altered()) return [h("p", { class: "fake" }, icon("warning"), h("span", { text: altered }))];
  const alike = identity === null ? null : h("p", { class: "alike", text: () => t("search.identity", { identity: similarityText(identity) }) });
  return [alike, realLine(hit)];
}

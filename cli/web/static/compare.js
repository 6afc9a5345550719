// The first tab: two photos or more, everyone against everyone.

import { call } from "./api.js";
import { openCamera } from "./camera.js";
import { Card } from "./card.js";
import { bind, byId, debounce, h, say } from "./dom.js";
import { t } from "./i18n.js";
import { openDialog, sift } from "./intake.js";
import { Matrix } from "./matrix.js";
import { clearNotices, errorDetail, errorNotice, errorText, notice, problemNotice } from "./notices.js";
import { Pair } from "./pair.js";
import { Threshold } from "./threshold.js";
import { verdict } from "./verdict.js";

const DEFAULT_MOST = 10;
const PAUSE_MS = 150; // several changes in a row are one question to the server

const notices = byId("notice-compare");
const list = byId("photos");
const results = byId("results");
const area = byId("drop-compare");

const cards = [];
let shown = []; // those of them that the answer is about
let server = null; // the answer of /health, once there is one
let request = null;
let answer = null;
let selected = null; // [card, card]

const threshold = new Threshold({ onChange: judge });
const matrix = new Matrix({ onSelect: (a, b) => select(shown[a], shown[b]) });
const pair = new Pair();
const summary = h("p", { class: "summary" });
const table = h("div", { class: "card table" }, h("h3", { class: "title", text: () => t("matrix.title") }), matrix.element, h("p", { class: "soft key", text: () => t("matrix.key") }), matrix.note);
results.append(
  h("div", { class: "heading" }, h("h2", { text: () => t("results") }), summary),
  h("div", { class: "columns" }, h("div", { class: "column" }, threshold.element, table), pair.element),
);

const ask = debounce(compare, PAUSE_MS);

/** Wire the tab up. */
export function openCompare() {
  openDialog({ button: byId("choose-compare"), area, input: byId("files-compare"), take: addPhotos });
  byId("camera-compare").addEventListener("click", () => openCamera((file) => addPhotos([file])));
  byId("clear").addEventListener("click", clear);
  bind(byId("hint-compare"), "text", hint);
}

/** What the server can do. */
export function learnServer(health) {
  server = health;
  threshold.learn(health.threshold ?? null, health.threshold_source);
  pair.offer(health.explain ? (health.methods ?? ["occlusion"]) : []);
  bind(byId("hint-compare"), "text", hint);
}

/** Add these files, as far as they can be sent, and compare. */
export function addPhotos(files) {
  clearNotices(notices);
  const most = server?.limits?.photos ?? DEFAULT_MOST;
  const { good, problems } = sift(files, {
    room: most - cards.length,
    most,
    sent: cards.reduce((sum, card) => sum + card.file.size, 0),
    limits: server?.limits,
  });
  for (const problem of problems) problemNotice(notices, problem);
  for (const file of good) {
    const card = new Card(file, { onRemove: () => remove(card), onChoose: () => chosen() });
    cards.push(card);
    list.append(card.element);
  }
  if (good.length > 0) {
    if (cards.length === 1) say(t("compare.one_more"));
    changed();
  }
}

function hint() {
  const limit = server?.limits?.photos ?? DEFAULT_MOST;
  if (cards.length === 1) return t("compare.one_more");
  return cards.length === 0 ? t("compare.hint", { n: limit }) : t("compare.more", { n: cards.length, most: limit });
}

function remove(card) {
  const index = cards.indexOf(card);
  cards.splice(index, 1);
  card.remove();
  clearNotices(notices);
  say(t("card.removed", { name: card.name }));
  // The focus goes to the next photo, not to the start of the page.
  const next = cards[Math.min(index, cards.length - 1)];
  (next ? next.element.querySelector(".remove") : byId("choose-compare")).focus();
  changed();
}

function chosen() {
  clearNotices(notices);
  changed();
}

function clear() {
  for (const card of cards) card.remove();
  cards.length = 0;
  clearNotices(notices);
  say(t("cleared"));
  byId("choose-compare").focus();
  changed();
}

/** Other photos or another face: number them, and ask anew. */
function changed() {
  for (const [index, card] of cards.entries()) {
    card.place(index + 1);
  }
  const any = cards.length > 0;
  area.classList.toggle("compact", any);
  list.hidden = !any;
  byId("clear").hidden = !any;
  bind(byId("hint-compare"), "text", hint);
  request?.abort();
  pair.forget();
  if (usable().length >= 2) {
    results.setAttribute("aria-busy", "true");
    ask();
  } else {
    ask.cancel();
    results.hidden = true;
    for (const card of cards) card.busy(false);
  }
}

/** Those that the server could read, as far as is known. */
function usable() {
  return cards.filter((card) => !card.broken);
}

async function compare() {
  const asked = usable();
  const mine = new AbortController();
  request = mine;
  for (const card of asked) card.busy(card.chosen === null && !card.reason);
  results.setAttribute("aria-busy", "true");
  try {
    const given = await call("api/v1/compare", { form: () => form(asked), signal: mine.signal });
    if (mine.signal.aborted) return;
    show(given, asked);
  } catch (error) {
    if (mine.signal.aborted) return;
    fail(error, asked);
  } finally {
    if (request === mine) results.removeAttribute("aria-busy");
  }
}

function form(asked) {
  const form = new FormData();
  // Neutral names: those of the user's files never leave the browser, and an error's photo is found by its number.
  for (const card of asked) form.append("photos", card.file, `photo-${card.number}`);
  form.append("faces", JSON.stringify(asked.map((card) => card.wanted)));
  return form;
}

function fail(error, asked) {
  const bad = asked.find((card) => `photo-${card.number}` === error.photo);
  if (!bad) {
    results.hidden = true;
    for (const card of asked) card.busy(false);
    errorNotice(notices, error, compare);
    return;
  }
  bad.fail(error.message, error.code);
  const text = () => `${t("photo.named", { n: bad.number, name: bad.name })}: ${errorText(error)}`;
  notice(notices, { text, detail: errorDetail(error) });
  changed(); // the others are compared without it
}

function show(given, asked) {
  answer = given;
  shown = asked;
  threshold.learn(given.threshold ?? null, given.threshold_source);
  const norms = given.photos.flatMap((photo) => (photo.chosen === null ? [] : [photo.faces[photo.chosen].norm]));
  for (const [index, card] of shown.entries()) card.show(given.photos[index], Math.max(0, ...norms));
  threshold.draw(pairs().map(([, , similarity]) => similarity).filter((similarity) => similarity !== null));
  const judged = { threshold: threshold.value, resistsFakes: given.resists_fakes, identity };
  matrix.show(shown, given.similarity, judged);
  results.hidden = false;
  bind(summary, "text", summaryText);
  if (!selected?.every((card) => shown.includes(card))) selected = mostSimilar();
  select(...selected);
  say(summaryText());
}

/** Every pair once: [a, b, similarity]. */
function pairs() {
  return shown.flatMap((_, a) => shown.slice(a + 1).map((__, offset) => [a, a + 1 + offset, answer.similarity[a][a + 1 + offset]]));
}

function mostSimilar() {
  const [a, b] = pairs().reduce((best, one) => ((one[2] ?? -2) > (best[2] ?? -2) ? one : best));
  return [shown[a], shown[b]];
}

function select(first, second) {
  const [a, b] = [shown.indexOf(first), shown.indexOf(second)].sort((x, y) => x - y);
  selected = [shown[a], shown[b]];
  matrix.select(a, b);
  const told = { threshold: threshold.value, resistsFakes: answer.resists_fakes, identity: identity(a, b), meaning: pairOf(a, b) };
  pair.show(shown[a], shown[b], answer.similarity[a][b], told);
}

/** How alike two photos' faces are by identity alone; null where the model does not say. */
function identity(first, second) {
  return pairOf(first, second)?.identity ?? null;
}

/** What the server says of a pair; null where there is no such pair. */
function pairOf(first, second) {
  const [a, b] = [Math.min(first, second), Math.max(first, second)];
  return answer.pairs?.find((one) => one.a === a && one.b === b) ?? null;
}

/** The threshold moved: the verdicts are computed here, the server is not asked. */
function judge(value) {
  if (!answer || results.hidden) return;
  matrix.judge(value);
  pair.judge(value);
  bind(summary, "text", summaryText);
}

function summaryText() {
  const kinds = pairs().map(([, , similarity]) => verdict(similarity, threshold.value));
  const count = (kind) => kinds.filter((one) => one === kind).length;
  const said = [t("summary.pairs", { n: kinds.length })];
  for (const kind of ["same", "different", "no_face"]) {
    if (count(kind) > 0) said.push(t(`summary.${kind}`, { n: count(kind) }));
  }
  const altered = shown.filter((card) => card.face?.altered).length;
  if (altered > 0) said.push(t("summary.altered", { n: altered }));
  return `${said.join(" · ")}`;
}

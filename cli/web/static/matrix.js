// The table of similarities as a heat map. A grid for the keyboard: one cell is in the tab order, arrow keys move.

import { bind, h, icon, refresh } from "./dom.js";
import { number, t } from "./i18n.js";
import { alteredText, keptApart, similarityText, strength, verdict, verdictText } from "./verdict.js";

export class Matrix {
  /** `onSelect(a, b)` tells which pair was chosen, a < b. */
  constructor({ onSelect }) {
    this.onSelect = onSelect;
    this.pair = null;
    this.body = h("tbody", {});
    this.head = h("thead", {});
    this.table = h("table", { role: "grid", class: "matrix", "aria-label": () => t("matrix.label") }, this.head, this.body);
    this.element = h("div", { class: "scroll" }, this.table);
    this.note = h("p", { class: "soft key", hidden: true, text: () => t("matrix.apart") });
    this.table.addEventListener("keydown", (event) => this.move(event));
  }

  /** `cards` are the photos in order, `similarity` their matrix with null where a face is missing; so `identity`, or null without a gate. */
  show(cards, similarity, { threshold, resistsFakes, identity }) {
    this.cards = cards;
    this.similarity = similarity;
    this.identity = identity;
    this.resistsFakes = resistsFakes;
    this.cells = [];
    const corner = h("td", { class: "corner" });
    this.head.replaceChildren(h("tr", {}, corner, ...cards.map((card) => heading(card, "col"))));
    this.body.replaceChildren(...cards.map((card, row) => h("tr", {}, heading(card, "row"), ...cards.map((_, column) => this.cell(row, column)))));
    this.table.style.setProperty("max-width", `${64 + 116 * cards.length}px`);
    this.judge(threshold);
  }

  cell(row, column) {
    if (row === column) return h("td", { class: "own" }, h("span", { "aria-hidden": "true", text: "·" }));
    const a = Math.min(row, column);
    const b = Math.max(row, column);
    const value = this.similarity[row][column];
    const button = h("button", { type: "button", tabindex: "-1", on: { click: () => this.onSelect(a, b) } });
    bind(button, "aria-label", () => this.name(a, b));
    const figure = h("span", { class: "figure", text: () => similarityText(value) });
    button.append(figure, h("span", { class: "sign" }));
    const cell = h("td", { class: "value" }, button);
    this.cells.push({ row, column, a, b, value, cell, button });
    return cell;
  }

  name(a, b) {
    const value = this.similarity[a][b];
    const kind = verdict(value, this.threshold ?? null);
    const words = verdictText(kind, this.resistsFakes);
    const names = { a: this.cards[a].number, b: this.cards[b].number };
    if (value === null) return t("matrix.none", { ...names, verdict: words });
    const said = t("matrix.cell", { ...names, similarity: similarityText(value), verdict: words });
    const photo = (n) => (real) => t("fake.photo", { n, real });
    const altered = alteredText(this.pairOf(a, b), [photo(names.a), photo(names.b)]);
    return altered === null ? said : `${said}. ${altered}`;
  }

  /** What is known of a pair beside its place. */
  pairOf(a, b) {
    const faces = [this.cards[a].face, this.cards[b].face];
    return { similarity: this.similarity[a][b], identity: this.identity(a, b), faces, threshold: this.threshold ?? null };
  }

  /** Colour and name every cell by this threshold. */
  judge(threshold) {
    this.threshold = threshold;
    this.note.hidden = true;
    for (const { a, b, value, cell, button } of this.cells) {
      const kind = verdict(value, threshold);
      cell.className = `value ${kind}`;
      cell.style.setProperty("--heat", value === null ? "0" : strength(value, threshold).toFixed(3));
      const sign = button.querySelector(".sign");
      const apart = keptApart(this.pairOf(a, b));
      if (apart) sign.replaceChildren(icon("warning"), h("span", { text: () => similarityText(this.identity(a, b)) }));
      else sign.replaceChildren(...(kind === "same" || kind === "different" ? [icon(kind)] : []));
      cell.classList.toggle("apart", apart);
      if (apart) this.note.hidden = false;
    }
    refresh(this.table);
  }

  /** Mark this pair as the one that is shown beside. */
  select(a, b) {
    for (const entry of this.cells) {
      const chosen = entry.a === a && entry.b === b;
      const inOrder = chosen && entry.row === a;
      entry.cell.setAttribute("aria-selected", String(chosen));
      entry.button.tabIndex = inOrder ? 0 : -1;
    }
    // A cell of the lower half keeps the focus that it has.
    const focused = this.cells.find((entry) => entry.button === document.activeElement);
    if (focused) this.enter(focused);
  }

  enter(entry) {
    for (const other of this.cells) other.button.tabIndex = other === entry ? 0 : -1;
    if (document.activeElement !== entry.button) entry.button.focus();
  }

  move(event) {
    const here = this.cells.find((entry) => entry.button === document.activeElement);
    if (!here || event.altKey || event.metaKey) return;
    const last = this.similarity.length - 1;
    const at = (row, column) => this.cells.find((entry) => entry.row === row && entry.column === column);
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    let next = null;
    if (step) {
      let [row, column] = [here.row + step[0], here.column + step[1]];
      if (row === column) [row, column] = [row + step[0], column + step[1]]; // over the diagonal
      next = at(row, column);
    } else if (event.key === "Home") {
      next = event.ctrlKey ? at(0, 1) : at(here.row, here.row === 0 ? 1 : 0);
    } else if (event.key === "End") {
      next = event.ctrlKey ? at(last, last - 1) : at(here.row, here.row === last ? last - 1 : last);
    } else {
      return;
    }
    event.preventDefault();
    if (next) this.enter(next);
  }
}

function heading(card, scope) {
  const face = card.face;
  const picture = face?.chip
    ? h("img", { src: face.chip, alt: "" })
    : h("span", { class: "gone" }, icon("noface"));
  const name = h("span", { class: "sr", text: () => t("card.picture", { n: card.number, name: card.name }) });
  const badge = h("span", { class: "badge", "aria-hidden": "true", text: String(card.number) });
  const head = h("span", { class: "head" }, picture, badge, name);
  if (face?.altered) {
    const words = () => t("face.altered", { value: number(face.real, 2) });
    head.append(h("span", { class: "mark", title: words }, icon("warning"), h("span", { class: "sr", text: () => ` ${words()}` })));
  }
  return h("th", { scope, title: card.name }, head);
}

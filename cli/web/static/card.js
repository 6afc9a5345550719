// One photo on the page: its picture with a box round each face, the aligned face, quality, and why there is no face.

import { bind, h, icon, refresh, rove } from "./dom.js";
import { number, t } from "./i18n.js";
import { shownName } from "./intake.js";
import { reasonText } from "./notices.js";
import { realLine } from "./verdict.js";

/** What the user sees of one photo. `onRemove()` and `onChoose(face)` tell of clicks; the card itself asks the server nothing. */
export class Card {
  constructor(file, { onRemove, onChoose }) {
    this.file = file;
    this.name = shownName(file.name);
    this.onChoose = onChoose;
    this.number = 0;
    this.faces = [];
    this.chosen = null; // what is shown
    this.broken = false;
    this.wanted = null; // what the user asked for; null leaves it to the server
    this.address = URL.createObjectURL(file);
    this.element = this.build(onRemove);
    this.busy(true);
  }

  build(onRemove) {
    this.picture = h("img", { class: "picture", src: this.address, alt: () => this.title(), decoding: "async" });
    this.boxes = h("div", { class: "boxes" });
    this.fit = h("div", { class: "fit" }, this.picture, this.boxes);
    this.picture.addEventListener("load", () => this.shape(this.picture.naturalWidth, this.picture.naturalHeight));
    this.picture.addEventListener("error", () => this.element.classList.add("blind")); // TIFF, which browsers cannot show
    rove(this.boxes, () => [...this.boxes.querySelectorAll("[role=radio]")], (box) => this.choose(Number(box.dataset.face)));
    this.chip = h("img", { class: "chip", alt: () => t("card.chip", { n: this.number }), hidden: true });
    this.badge = h("span", { class: "badge", "aria-hidden": "true" });
    this.facts = h("div", { class: "facts" });
    const heading = h("h3", { class: "name", title: this.name }, h("span", { class: "sr", text: () => `${t("photo", { n: this.number })}: ` }));
    heading.append(h("span", { class: "clip", text: this.name }));
    const remove = h(
      "button",
      {
        type: "button",
        class: "round remove",
        "aria-label": () => t("card.remove", { n: this.number, name: this.name }),
        on: { click: onRemove },
      },
      icon("close"),
    );
    const words = h("div", { class: "words" }, heading, this.facts);
    return h(
      "li",
      { class: "photo" },
      h("div", { class: "frame" }, icon("noface"), this.fit, this.badge),
      h("div", { class: "about" }, this.chip, words),
      remove,
    );
  }

  /** The face that is compared, as the server describes it; null without one. */
  get face() {
    return this.chosen === null ? null : (this.faces[this.chosen] ?? null);
  }

  title() {
    return t("card.picture", { n: this.number, name: this.name });
  }

  /** Its place among the photos, from 1. */
  place(value) {
    this.number = value;
    this.badge.textContent = String(value);
    refresh(this.element);
  }

  shape(width, height) {
    this.fit.classList.toggle("tall", width / height < 4 / 3);
    this.fit.style.setProperty("aspect-ratio", `${width} / ${height}`);
  }

  busy(on) {
    this.element.classList.toggle("busy", on);
  }

  /** What the server found: an entry of `photos` of its answer; `best` is the largest norm among all photos. */
  show(photo, best) {
    this.busy(false);
    this.shape(photo.width || 4, photo.height || 3);
    const faces = photo.faces ?? [];
    if (JSON.stringify(faces.map((face) => face.box)) !== JSON.stringify(this.faces.map((face) => face.box))) {
      this.faces = faces;
      this.draw(photo.width, photo.height);
    }
    this.faces = faces;
    this.best = best;
    this.reason = photo.reason;
    this.code = photo.reason_code;
    this.found = photo.faces_found ?? faces.length;
    this.mark(photo.chosen);
  }

  /** The photo could not be used at all. */
  fail(reason, code) {
    this.broken = true; // the others are compared without it
    this.show({ faces: [], chosen: null, reason, reason_code: code, width: 0, height: 0 }, 0);
  }

  draw(width, height) {
    const several = this.faces.length > 1;
    this.boxes.replaceChildren();
    if (several) {
      this.boxes.setAttribute("role", "radiogroup");
      bind(this.boxes, "aria-label", () => t("card.choose", { n: this.number }));
    }
    // The large ones first, so that a small one in front of them can still be clicked.
    const order = this.faces.map((_, index) => index).sort((a, b) => area(this.faces[b].box) - area(this.faces[a].box));
    for (const index of several ? this.faces.keys() : order) {
      const face = this.faces[index];
      const box = several ? this.radio(index) : h("span", { class: "box on" });
      place(box, face.box, width, height, order.indexOf(index));
      if (face.chip) box.append(h("img", { src: face.chip, alt: "" })); // seen only where the browser cannot show the photo
      this.boxes.append(box);
    }
  }

  radio(index) {
    const name = () => t("card.face", { n: index + 1, all: this.faces.length });
    return h("button", {
      type: "button",
      role: "radio",
      class: "box",
      "data-face": index,
      "aria-label": name,
      title: name,
      on: { click: () => this.choose(index) },
    });
  }

  choose(index) {
    if (index === this.chosen) return;
    this.wanted = index;
    this.mark(index);
    this.onChoose(index);
  }

  mark(index) {
    this.chosen = index;
    for (const box of this.boxes.querySelectorAll("[role=radio]")) {
      const on = Number(box.dataset.face) === index;
      box.classList.toggle("on", on);
      box.setAttribute("aria-checked", String(on));
      box.tabIndex = on || (index === null && box.dataset.face === "0") ? 0 : -1;
    }
    const face = this.face;
    this.element.classList.toggle("none", face === null);
    this.chip.hidden = !face?.chip;
    if (face?.chip) this.chip.src = face.chip;
    this.facts.replaceChildren(...(face ? this.quality(face) : this.why()));
  }

  quality(face) {
    const meter = h("span", { class: "meter", "aria-hidden": "true" }, h("span", {}));
    meter.firstChild.style.setProperty("width", `${Math.round(100 * Math.min(1, face.norm / (this.best || face.norm)))}%`);
    const digits = face.norm < 10 ? 2 : 1;
    const lines = [
      h("p", { class: "quality", title: () => t("card.quality.help") }, h("span", { text: () => t("card.quality", { value: number(face.norm, digits) }) }), meter),
    ];
    if (this.faces.length > 1) {
      lines.push(h("p", { class: "soft", text: () => t("card.faces", { n: this.found }) }));
    }
    const real = realLine(face);
    if (real) lines.splice(1, 0, real);
    return lines;
  }

  why() {
    if (!this.reason) return [];
    const reason = h("p", { class: "reason" }, icon("noface"), h("span", { text: () => reasonText(this.code, this.reason) }));
    return [reason];
  }

  /** It leaves the page. */
  remove() {
    URL.revokeObjectURL(this.address);
    this.element.remove();
  }
}

function area([, , width, height]) {
  return width * height;
}

function place(box, [x, y, width, height], photoWidth, photoHeight, layer) {
  const percent = (value, whole) => `${(100 * value) / whole}%`;
  box.style.setProperty("left", percent(x, photoWidth));
  box.style.setProperty("top", percent(y, photoHeight));
  box.style.setProperty("width", percent(width, photoWidth));
  box.style.setProperty("height", percent(height, photoHeight));
  box.style.setProperty("z-index", String(layer + 1));
}

// The threshold: a slider with the pairs drawn along it, a number field, and the way back to the model's own.

import { bind, debounce, h, icon, say } from "./dom.js";
import { number, t } from "./i18n.js";
import { verdict } from "./verdict.js";

const STEP = 0.001;

export class Threshold {
  /** `onChange(value)` tells of every move; the value is null only where the model has no threshold and the user gave none. */
  constructor({ onChange }) {
    this.onChange = onChange;
    this.value = null;
    this.own = null;
    this.touched = false;
    this.source = "";
    this.similarities = [];
    this.element = this.build();
    this.announce = debounce(() => say(this.counts()), 600);
  }

  build() {
    this.slider = h("input", { type: "range", id: "threshold", step: STEP, "aria-describedby": "threshold-source" });
    this.field = h("input", { type: "number", min: -1, max: 1, step: STEP, inputmode: "decimal", "aria-label": () => t("threshold.number") });
    this.dots = h("div", { class: "dots", "aria-hidden": "true" });
    this.ends = [h("span", {}), h("span", {})];
    this.count = h("p", { class: "count" });
    this.origin = h("p", { class: "soft", id: "threshold-source" });
    this.reset = h(
      "button",
      { type: "button", class: "plain small", on: { click: () => this.back() } },
      icon("reset"),
      h("span", { text: () => t("threshold.reset") }),
    );
    this.slider.addEventListener("input", () => this.set(Number(this.slider.value)));
    this.field.addEventListener("input", () => {
      const value = this.field.valueAsNumber;
      const valid = value >= -1 && value <= 1;
      this.field.setAttribute("aria-invalid", String(!valid));
      if (valid) this.set(value, { typed: true });
    });
    this.field.addEventListener("change", () => this.paint());
    const label = h("label", { for: "threshold", class: "title", text: () => t("threshold") });
    const scale = h("div", { class: "ends", "aria-hidden": "true" }, ...this.ends);
    return h(
      "div",
      { class: "threshold card" },
      h("div", { class: "line" }, label, this.field, this.reset),
      h("div", { class: "track" }, this.dots, this.slider, scale),
      this.count,
      this.origin,
    );
  }

  /** The model's own threshold and where it is from; what the user set stays. */
  learn(own, source) {
    this.own = own;
    this.source = source ?? "";
    if (!this.touched) this.value = own;
    bind(this.origin, "text", () => this.originText());
  }

  originText() {
    if (this.own === null) return t("threshold.unknown");
    return t("threshold.source", { value: number(this.own, 3), source: this.source || t("threshold.unnamed") });
  }

  /** The similarities of the pairs with a face on both sides. */
  draw(similarities) {
    this.similarities = similarities;
    this.paint();
  }

  set(value, { typed = false } = {}) {
    this.value = Math.round(value / STEP) * STEP;
    this.touched = true;
    this.paint({ typed });
    this.onChange(this.value);
    this.announce();
  }

  back() {
    this.touched = false;
    this.value = this.own;
    this.paint();
    this.onChange(this.value);
    say(t("threshold.was_reset", { value: this.own === null ? "–" : number(this.own, 3) }));
    this.slider.focus();
  }

  /** The part of [-1, 1] that is shown: what there is, with a margin, to a whole tenth. */
  span() {
    const all = [...this.similarities, this.own ?? 0, this.value ?? 0];
    return [Math.max(-1, Math.floor(Math.min(...all) * 10 - 0.5) / 10), 1];
  }

  paint({ typed = false } = {}) {
    const [low, high] = this.span();
    this.slider.min = low;
    this.slider.max = high;
    this.slider.value = this.value ?? (this.own ?? 0);
    bind(this.slider, "aria-valuetext", () => (this.value === null ? t("threshold.none") : number(this.value, 3)));
    if (!typed) {
      this.field.value = this.value === null ? "" : this.value.toFixed(3);
      this.field.removeAttribute("aria-invalid");
    }
    this.slider.style.setProperty("--at", String(((this.value ?? low) - low) / (high - low)));
    bind(this.ends[0], "text", () => number(low, 1));
    bind(this.ends[1], "text", () => number(high, 1));
    this.dots.replaceChildren(...this.similarities.map((similarity) => this.dot(similarity, low, high)));
    this.reset.hidden = !this.touched || this.value === this.own;
    bind(this.count, "text", () => this.counts());
  }

  dot(similarity, low, high) {
    const dot = h("span", { class: `dot ${verdict(similarity, this.value)}` });
    dot.style.setProperty("--at", String((Math.min(high, Math.max(low, similarity)) - low) / (high - low)));
    return dot;
  }

  counts() {
    if (this.value === null) return t("threshold.set_one");
    const same = this.similarities.filter((similarity) => similarity >= this.value).length;
    return t("threshold.count", { n: this.similarities.length, same: number(same) });
  }
}

// One pair at a time: both faces, their similarity, the verdict, and on demand which parts make them similar.

import { call } from "./api.js";
import { bind, h, icon, say } from "./dom.js";
import { number, t } from "./i18n.js";
import { errorNotice } from "./notices.js";
import { alteredText, similarityText, verdict, verdictLabel, strangersText } from "./verdict.js";

export class Pair {
  constructor() {
    this.maps = new Map(); // "pair|method" -> answer of the server, until the photos change
    this.methods = [];
    this.explaining = false;
    this.request = null;
    this.faces = [h("img", { alt: "" }), h("img", { alt: "" })];
    this.captions = [h("figcaption", {}), h("figcaption", {})];
    this.title = h("h3", { class: "title" });
    this.figure = h("p", { class: "big" });
    this.label = h("p", { class: "label" });
    this.alike = h("p", { class: "soft alike" });
    this.strangers = h("p", { class: "soft strangers" });
    this.note = h("div", {});
    this.build();
  }

  build() {
    this.toggle = h("button", {
      type: "button",
      role: "switch",
      class: "switch",
      "aria-checked": "false",
      on: { click: () => this.explain(!this.explaining) },
    });
    this.toggle.append(h("span", { class: "knob", "aria-hidden": "true" }), h("span", { text: () => t("explain.toggle") }));
    this.method = h("select", { "aria-label": () => t("explain.method"), on: { change: () => this.explain(true) } });
    this.state = h("div", { class: "explained", "aria-live": "polite" });
    this.tools = h("div", { class: "explain", hidden: true }, h("div", { class: "line" }, this.toggle, this.method), this.state);
    const sides = this.faces.map((face, side) => h("figure", { class: "side" }, h("div", { class: "face" }, face), this.captions[side]));
    this.element = h(
      "section",
      { class: "pair card", "aria-label": () => t("pair.section") },
      this.title,
      h("div", { class: "sides" }, ...sides),
      h("div", { class: "outcome" }, this.figure, this.label),
      this.strangers,
      this.alike,
      this.note,
      this.tools,
    );
  }

  /** The methods of explanation that the server has; none hides the switch. */
  offer(methods) {
    this.methods = methods;
    const options = methods.map((method) => h("option", { value: method, text: () => t(`explain.${method}`) }));
    this.method.replaceChildren(...options);
    this.method.hidden = methods.length < 2;
    this.tools.hidden = methods.length === 0;
  }

  /** Other photos or faces: what was explained is about those that are gone. */
  forget() {
    this.maps.clear();
    this.request?.abort();
  }

  /** Show the cards `a` and `b`, and their similarity. */
  show(a, b, similarity, { threshold, resistsFakes, identity = null, meaning = null }) {
    this.a = a;
    this.b = b;
    this.similarity = similarity;
    this.resistsFakes = resistsFakes;
    this.identity = identity;
    bind(this.title, "text", () => t("pair.title", { a: a.number, b: b.number }));
    for (const [side, card] of [a, b].entries()) bind(this.captions[side], "text", () => `${card.number} · ${card.name}`);
    bind(this.figure, "text", () => (this.similarity === null ? "–" : similarityText(this.similarity)));
    this.meaning = meaning;
    this.strangers.hidden = (meaning?.fmr ?? null) === null;
    bind(this.strangers, "text", () => strangersText(this.meaning));
    this.alike.hidden = this.identity === null;
    bind(this.alike, "text", () => (this.identity === null ? "" : t("pair.identity", { identity: similarityText(this.identity) })));
    this.tools.hidden = this.methods.length === 0 || similarity === null;
    this.plain();
    this.judge(threshold);
    if (this.explaining && !this.tools.hidden) this.explain(true);
  }

  plain() {
    for (const [side, card] of [this.a, this.b].entries()) {
      const face = card.face;
      this.picture(side, face?.chip, () => (face ? t("card.chip", { n: card.number }) : t("reason.no_face")));
    }
    this.state.replaceChildren();
  }

  picture(side, source, alt) {
    const image = this.faces[side];
    image.hidden = !source;
    image.parentElement.classList.toggle("gone", !source);
    if (source) image.src = source;
    else image.removeAttribute("src");
    bind(image, "alt", alt);
  }

  judge(threshold) {
    const kind = verdict(this.similarity, threshold);
    this.label.replaceChildren(verdictLabel(kind, this.resistsFakes));
    const suspected = kind === "different" && this.resistsFakes;
    const warning = suspected && h("p", { class: "fake" }, icon("warning"), h("span", { text: () => t("fake.warning") }));
    const faces = [this.a, this.b].map((card) => card.face);
    const names = [this.a, this.b].map((card) => (real) => t("fake.photo", { n: card.number, real }));
    const altered = () => alteredText({ similarity: this.similarity, identity: this.identity, faces, threshold }, names);
    const said = altered() && h("p", { class: "fake" }, icon("warning"), h("span", { text: altered }));
    this.note.replaceChildren(...(said ? [said] : warning ? [warning] : []));
  }

  async explain(on) {
    this.explaining = on;
    this.toggle.setAttribute("aria-checked", String(on));
    this.request?.abort();
    if (!on) {
      this.plain();
      return;
    }
    const { a, b } = this;
    const method = this.method.value || this.methods[0];
    const key = `${a.number}-${b.number}|${method}`;
    if (!this.maps.has(key)) {
      this.state.replaceChildren(h("p", { class: "working", text: () => t("explain.working") }));
      const request = new AbortController();
      this.request = request;
      try {
        this.maps.set(key, await call("api/v1/explain", { form: () => form(a, b, method), signal: request.signal }));
      } catch (error) {
        if (request.signal.aborted) return;
        this.explaining = false;
        this.toggle.setAttribute("aria-checked", "false");
        this.plain();
        errorNotice(this.state, error, () => this.explain(true));
        return;
      }
      if (request.signal.aborted) return;
    }
    this.overlay(this.maps.get(key));
  }

  overlay(answer) {
    this.picture(0, answer.overlay_a, () => t("explain.overlay", { n: this.a.number }));
    this.picture(1, answer.overlay_b, () => t("explain.overlay", { n: this.b.number }));
    const ramp = h("span", { class: "ramp", "aria-hidden": "true" });
    const ends = ["explain.apart", "explain.alike"].map((key) => h("span", { text: () => t(key) }));
    const legend = h("p", { class: "legend" }, ends[0], ramp, ends[1]);
    const shares = h("p", { class: "soft", text: () => t("explain.parts", parts(answer)) });
    this.state.replaceChildren(legend, shares);
    say(t("explain.done"));
  }
}

function form(a, b, method) {
  const form = new FormData();
  for (const card of [a, b]) form.append("photos", card.file, `photo-${card.number}`);
  form.append("faces", JSON.stringify([a.chosen, b.chosen]));
  form.append("method", method);
  return form;
}

/** The share of what speaks for similarity in the upper, middle and lower third of both aligned faces. */
function parts({ map_a: a, map_b: b }) {
  const sums = [0, 0, 0];
  for (const map of [a, b]) {
    for (const [row, values] of map.entries()) {
      const third = Math.min(2, Math.floor((3 * row) / map.length));
      for (const value of values) sums[third] += Math.max(0, value);
    }
  }
  const all = sums[0] + sums[1] + sums[2] || 1;
  const [upper, middle, lower] = sums.map((sum) => number(Math.round((100 * sum) / all)));
  return { upper, middle, lower };
}

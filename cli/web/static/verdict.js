// What a similarity means at a threshold: the verdict, its words, and how strongly its cell is coloured.

import { h, icon } from "./dom.js";
import { number, t } from "./i18n.js";

/** `same`, `different`, `no_face`, or `open` where there is no threshold to judge by. */
export function verdict(similarity, threshold) {
  if (similarity === null) return "no_face";
  if (threshold === null) return "open";
  return similarity >= threshold ? "same" : "different";
}

/** The verdict in words. Only a model that keeps deepfakes apart lets a low similarity be read as a possible one. */
export function verdictText(kind, resistsFakes) {
  return t(kind === "different" && resistsFakes ? "verdict.different_or_fake" : `verdict.${kind}`);
}

/**
 * Whether two are one person by identity and kept apart only because a face looks altered. The server says which faces do.
 * `faces` are both, as it describes them.
 */
export function keptApart({ similarity, identity, faces, threshold }) {
  if (similarity === null || threshold === null || (identity ?? -2) < threshold || similarity >= threshold) return false;
  return faces.some((face) => face?.altered);
}

/** The same in words; null where it is not so. `names` say which photos they are, as `fake.photo` or the like does. */
export function alteredText({ similarity, identity, faces, threshold }, names) {
  if (!keptApart({ similarity, identity, faces, threshold })) return null;
  const altered = faces.flatMap((face, side) => (face?.altered ? [names[side](number(face.real, 2))] : []));
  return t("fake.altered", { identity: number(identity, 2), photos: altered.join(t("fake.and")) });
}

/** How real a face looks, as a line with a sign where it looks altered; null where the model does not say. */
export function realLine(face) {
  if ((face?.real ?? null) === null) return null;
  const words = h("span", { text: () => t(face.altered ? "face.altered" : "face.real", { value: number(face.real, 2) }) });
  return h("p", { class: face.altered ? "real altered" : "real", title: () => t("face.real.help") }, face.altered && icon("warning"), words);
}

const STRANGERS = { about: "strangers.about", below: "strangers.below", above: "strangers.above" };

/**
 * What a similarity means: how many strangers are as alike, to two digits, and how probable one person is. `meaning` is a pair of the
 * server's answer; an empty text where it does not say.
 */
export function strangersText(meaning) {
  if ((meaning?.fmr ?? null) === null) return "";
  const strangers = t(STRANGERS[meaning.fmr_side], { n: number(Number((1 / meaning.fmr).toPrecision(2)), 0) });
  if ((meaning.probability ?? null) === null) return strangers;
  return `${strangers} ${t("strangers.odds", { percent: number(100 * meaning.probability, 1) })}`;
}

/** A similarity as it is written everywhere: three decimals, because thresholds differ in the third. */
export function similarityText(similarity) {
  return similarity === null ? "–" : number(similarity, 3);
}

/**
 * From 0 to 1: how far from the threshold, on the scale of 1 - threshold.
 * The scale of similarities differs between models (strangers are at 0.85 for one and at 0 for another), the distance from
 * the threshold to 1 shows it.
 */
export function strength(similarity, threshold) {
  const distance = Math.abs(similarity - (threshold ?? 0));
  const scale = Math.max(0.02, 1 - (threshold ?? 0));
  return 1 - Math.exp(-1.5 * distance / scale);
}

/** A label with the verdict, coloured and with a sign of its own, for those who do not see the colour. */
export function verdictLabel(kind, resistsFakes) {
  const signs = { same: "same", different: "different", no_face: "noface", open: "different" };
  const label = h("span", { class: `verdict ${kind}` });
  if (kind !== "open") label.append(icon(signs[kind]));
  label.append(h("span", { text: () => verdictText(kind, resistsFakes) }));
  return label;
}

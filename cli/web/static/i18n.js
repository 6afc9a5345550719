// The language of the page: texts by key, plural forms by the rules of the language, numbers in its spelling.

import { refresh } from "./dom.js";
import { en } from "./texts-en.js";
import { ru } from "./texts-ru.js";

const TEXTS = { en, ru };

let language = document.documentElement.lang === "ru" ? "ru" : "en";
let plurals = new Intl.PluralRules(language);

/** `en` or `ru`. */
export function currentLanguage() {
  return language;
}

/** Whether there is a text of this key. */
export function known(key) {
  return Object.hasOwn(TEXTS[language], key);
}

/**
 * The text of `key`, with `{name}` replaced by `values.name`.
 * A text with plural forms is an object of them; `values.n` chooses and is written in the language's way.
 */
export function t(key, values = {}) {
  let text = TEXTS[language][key];
  if (text === undefined) throw new Error(`no text for ${key} in ${language}`);
  if (typeof text === "object") text = text[plurals.select(values.n)] ?? text.other;
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    if (!Object.hasOwn(values, name)) throw new Error(`${key} needs ${name}`);
    return typeof values[name] === "number" ? number(values[name]) : String(values[name]);
  });
}

/** A number in the language's spelling, with a fixed count of decimals if given; a true minus sign. */
export function number(value, digits) {
  const options = digits === undefined ? {} : { minimumFractionDigits: digits, maximumFractionDigits: digits };
  const text = new Intl.NumberFormat(language, options).format(Math.abs(value));
  return value < 0 && /[1-9]/.test(text) ? `−${text}` : text;
}

/** A size in bytes, as MB or kB. */
export function bytes(count) {
  const big = count >= 1e6;
  const value = count / (big ? 1e6 : 1e3);
  return t(big ? "size.mb" : "size.kb", { value: number(value, value < 10 && value % 1 ? 1 : 0) });
}

/** Switch, remember, and write every live text anew. */
export function setLanguage(chosen) {
  language = chosen;
  plurals = new Intl.PluralRules(language);
  document.documentElement.lang = language;
  try {
    localStorage.setItem("faceembed.language", language);
  } catch {
    // Storage is switched off: the choice holds until the page is closed.
  }
  refresh();
}

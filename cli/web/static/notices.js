// Messages over a part of the page: what went wrong, what the server says about it, and a way on.

import { h, icon } from "./dom.js";
import { bytes, known, t } from "./i18n.js";

const SILENT = new Set(["offline", "timeout", "not_json"]); // these have no words of the server's

/** Take the messages away. */
export function clearNotices(container) {
  container.replaceChildren();
}

/**
 * Show one message under those that are there.
 *
 * text: function that gives it in the language of the moment. detail: the server's own words, which are English.
 * retry: what the button does, if anything. kind: `error`, `warning` or `info`.
 */
export function notice(container, { kind = "error", text, detail = "", retry = null }) {
  const box = h("div", { class: `notice ${kind}`, role: kind === "error" ? "alert" : "status" });
  const words = h("div", { class: "words" }, h("p", { text }));
  if (detail) words.append(h("p", { class: "detail", lang: "en", text: detail }));
  const close = h(
    "button",
    { type: "button", class: "round", "aria-label": () => t("close"), on: { click: () => box.remove() } },
    icon("close"),
  );
  box.append(icon("warning"), words);
  if (retry) {
    const again = () => {
      box.remove();
      retry();
    };
    box.append(h("button", { type: "button", class: "plain small", text: () => t("again"), on: { click: again } }));
  }
  box.append(close);
  container.append(box);
  return box;
}

/** Show an ApiError. */
export function errorNotice(container, error, retry) {
  return notice(container, { text: () => errorText(error), detail: errorDetail(error), retry });
}

/** What to say about an ApiError: ours in the user's language, by code, then by status. */
export function errorText(error) {
  const wait = error.retryAfter === null ? "" : ` ${t("error.wait", { n: error.retryAfter })}`;
  for (const key of [`error.${error.code}`, `error.http_${error.status}`]) {
    if (known(key)) return t(key) + wait;
  }
  return t("error.other") + wait;
}

/** The server's own line about it, or nothing where ours says as much. */
export function errorDetail(error) {
  return SILENT.has(error.code) || error.message.startsWith("HTTP ") ? "" : error.message;
}

/** Why a photo has no face, by the server's code, else in the server's own words. */
export function reasonText(code, reason) {
  const key = `reason.${code ?? ""}`;
  if (known(key)) return t(key);
  return /no face/i.test(reason) ? t("reason.no_face") : reason;
}

/** A file that is not sent, and why: a problem of `sift`. */
export function problemNotice(container, { key, values }) {
  const sizes = values.size === undefined ? () => ({}) : () => ({ size: bytes(values.size), limit: bytes(values.limit) });
  notice(container, { kind: "warning", text: () => t(key, { ...values, ...sizes() }) });
}

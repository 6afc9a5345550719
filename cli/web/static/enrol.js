// A dialog that adds photos of somebody: under a new name, or under one that is known already.

import { call } from "./api.js";
import { bind, byId, h, icon } from "./dom.js";
import { t } from "./i18n.js";
import { openDialog, shownName, sift } from "./intake.js";
import { clearNotices, errorDetail, errorNotice, errorText, notice, problemNotice } from "./notices.js";

const dialog = byId("enrol-dialog");
const form = byId("enrol-form");
const name = byId("enrol-name");
const list = byId("enrol-photos");
const notices = byId("notice-enrol");
const send = byId("enrol-send");

let files = [];
let given = { limits: null, onChange: () => {} };

openDialog({ button: byId("enrol-choose"), area: byId("enrol-drop"), input: byId("enrol-files"), take });
byId("enrol-cancel").addEventListener("click", () => dialog.close());
form.addEventListener("submit", (event) => {
  event.preventDefault();
  enrol();
});
name.addEventListener("input", draw);

/** Open it. `file` is a photo to start with, or null; `names` are offered; `onChange(text, name)` hears what was added. */
export function openEnrol({ file, names, limits, onChange }) {
  given = { limits, onChange };
  files = file ? [file] : [];
  name.value = "";
  byId("known-names").replaceChildren(...names.map((one) => h("option", { value: one })));
  clearNotices(notices);
  draw();
  dialog.showModal();
  name.focus();
}

function take(more) {
  clearNotices(notices);
  const most = given.limits?.photos ?? 10;
  const sent = files.reduce((sum, file) => sum + file.size, 0);
  const { good, problems } = sift(more, { room: most - files.length, most, sent, limits: given.limits });
  for (const problem of problems) problemNotice(notices, problem);
  files = [...files, ...good];
  draw();
}

function draw() {
  for (const image of list.querySelectorAll("img")) URL.revokeObjectURL(image.src);
  list.replaceChildren(...files.map((file, index) => entry(file, index)));
  list.hidden = files.length === 0;
  send.disabled = files.length === 0 || name.value.trim() === "";
}

function entry(file, index) {
  const shown = shownName(file.name);
  const picture = h("img", { src: URL.createObjectURL(file), alt: () => t("card.picture", { n: index + 1, name: shown }) });
  const remove = h(
    "button",
    {
      type: "button",
      class: "round remove",
      "aria-label": () => t("card.remove", { n: index + 1, name: shown }),
      on: {
        click: () => {
          files = files.filter((other) => other !== file);
          draw();
          byId("enrol-choose").focus();
        },
      },
    },
    icon("close"),
  );
  return h("li", { class: "mini" }, picture, remove);
}

async function enrol() {
  clearNotices(notices);
  form.setAttribute("aria-busy", "true");
  send.disabled = true;
  try {
    const answer = await call("api/v1/enrol", { form: body });
    dialog.close();
    given.onChange(t("enrol.done", { name: shownName(answer.name), n: answer.photos }), answer.name);
  } catch (error) {
    const bad = files.find((_, index) => `photo-${index + 1}` === error.photo);
    if (bad) {
      const text = () => `${t("photo.named", { n: files.indexOf(bad) + 1, name: shownName(bad.name) })}: ${errorText(error)}`;
      notice(notices, { text, detail: errorDetail(error) });
    } else {
      errorNotice(notices, error, null);
    }
    send.disabled = false;
  } finally {
    form.removeAttribute("aria-busy");
  }
}

function body() {
  const body = new FormData();
  for (const [index, file] of files.entries()) body.append("photos", file, `photo-${index + 1}`);
  body.append("name", name.value.trim());
  return body;
}

bind(byId("enrol-hint"), "text", () => t("enrol.hint"));

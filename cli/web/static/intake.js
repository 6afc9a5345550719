// Where photos come from: dropped on the page, pasted, or chosen in the file dialog. (camera.js is the fourth way.)
// It hands on the files of the tab that is open and knows nothing of what happens to them.

import { byId } from "./dom.js";

const ACCEPTED = "image/jpeg,image/png,image/webp,image/bmp,image/tiff,.tif,.tiff"; // without HEIC: phones then convert it
const FRAME_BYTES = 512; // what multipart adds to a photo, generously
const PICTURE_NAME = /\.(jpe?g|jfif|png|webp|bmp|tiff?)$/i;

/** Dropping and pasting anywhere on the page. `take(files)` gets a non-empty list. */
export function openPage(take) {
  const veil = byId("veil");
  let depth = 0; // dragenter and dragleave come for every element on the way

  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const lower = () => {
    depth = 0;
    veil.hidden = true;
  };
  addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth += 1;
    veil.hidden = document.querySelector("dialog[open]") !== null;
  });
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault(); // else the browser would leave the page and show the photo
    event.dataTransfer.dropEffect = "copy";
  });
  addEventListener("dragleave", (event) => {
    if (carriesFiles(event) && --depth <= 0) lower();
  });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    lower();
    give([...event.dataTransfer.files]);
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    give(files);
  });

  function give(files) {
    if (files.length > 0 && document.querySelector("dialog[open]") === null) take(files);
  }
}

/** The button and the whole drop area open the file dialog of `input`. */
export function openDialog({ button, area, input, take }) {
  input.accept = ACCEPTED;
  button.addEventListener("click", () => input.click());
  area.addEventListener("click", (event) => {
    if (!event.target.closest("button, input, label, a")) input.click();
  });
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = ""; // so that the same photo can be chosen again
    if (files.length > 0) take(files);
  });
}

/**
 * Those of `files` that can be sent, and what is wrong with the others.
 *
 * Returns { good, problems }: a problem is { key, values } of a text. `room` is how many more photos fit of `most`, `sent` how
 * many bytes the photos have that are there already: the server's limit is one of the whole request.
 */
export function sift(files, { room, most, sent = 0, limits }) {
  const problems = [];
  const good = [];
  let total = sent;
  let many = false;
  for (const file of files) {
    const name = shownName(file.name);
    if (!file.type.startsWith("image/") && !PICTURE_NAME.test(file.name)) {
      problems.push({ key: "error.file_type", values: { name } });
    } else if (file.size === 0) {
      problems.push({ key: "error.file_empty", values: { name } });
    } else if (good.length === room) {
      many = true;
    } else if (limits?.bytes && total + file.size + FRAME_BYTES > limits.bytes) {
      problems.push({ key: "error.file_size", values: { name, size: file.size, limit: limits.bytes } });
    } else {
      good.push(file);
      total += file.size + FRAME_BYTES;
    }
  }
  if (many) problems.push({ key: "error.file_count", values: { n: most } });
  return { good, problems };
}

/** A file name as it is shown: control and direction-changing characters would let it pretend to be another. */
export function shownName(name) {
  const spelled = (character) => `\\u${character.codePointAt(0).toString(16).padStart(4, "0")}`;
  return name.replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu, spelled);
}

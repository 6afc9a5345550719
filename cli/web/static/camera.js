// A photo from the camera: a dialog with the live picture, a shutter, and the next camera where there are several.

import { bind, byId, say } from "./dom.js";
import { t } from "./i18n.js";

const dialog = byId("camera-dialog");
const video = byId("video");
const state = byId("camera-state");
const shutter = byId("shutter");
const other = byId("other-camera");

let stream = null;
let cameras = [];
let current = 0;
let take = () => {};
let taken = 0;

/** Open the dialog; `give(file)` gets the photo that is taken. */
export async function openCamera(give) {
  take = give;
  dialog.showModal();
  await start({ facingMode: "user" });
}

async function start(video_constraints) {
  stop();
  shutter.disabled = true;
  tell("camera.starting");
  if (!navigator.mediaDevices?.getUserMedia) {
    tell("camera.insecure"); // browsers offer the camera only to https and localhost
    return;
  }
  try {
    const opened = await navigator.mediaDevices.getUserMedia({
      video: { width: { ideal: 1280 }, height: { ideal: 960 }, ...video_constraints },
      audio: false,
    });
    if (!dialog.open) {
      end(opened); // closed while the browser was asking
      return;
    }
    stream = opened;
    video.srcObject = stream;
    await video.play();
    const settings = stream.getVideoTracks()[0].getSettings();
    video.classList.toggle("mirror", settings.facingMode !== "environment");
    cameras = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "videoinput");
    current = Math.max(0, cameras.findIndex((device) => device.deviceId === settings.deviceId));
    other.hidden = cameras.length < 2;
    state.hidden = true;
    shutter.disabled = false;
    shutter.focus();
  } catch (error) {
    stop();
    const keys = { NotAllowedError: "camera.refused", NotFoundError: "camera.none", NotReadableError: "camera.in_use" };
    tell(keys[error.name] ?? "camera.failed");
  }
}

function tell(key) {
  state.hidden = false;
  bind(state, "text", () => t(key));
}

async function shoot() {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0); // not mirrored: only the preview is
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
  if (!blob) {
    tell("camera.failed");
    return;
  }
  taken += 1;
  dialog.close();
  say(t("camera.taken"));
  take(new File([blob], `camera-${taken}.jpg`, { type: "image/jpeg" }));
}

function end(opened) {
  for (const track of opened.getTracks()) track.stop();
}

function stop() {
  if (stream) end(stream);
  stream = null;
  video.srcObject = null;
}

shutter.addEventListener("click", shoot);
other.addEventListener("click", () => {
  current = (current + 1) % cameras.length;
  start({ deviceId: { exact: cameras[current].deviceId } });
});
dialog.addEventListener("close", stop);

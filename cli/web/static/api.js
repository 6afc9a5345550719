// The JSON API: one call, one kind of error, and the key where the server wants one.

/** What went wrong, by the server's code or one of ours: `offline`, `timeout`, `not_json`. */
export class ApiError extends Error {
  constructor(code, message, { status = 0, photo = null, retryAfter = null } = {}) {
    super(message);
    this.code = code;
    this.status = status;
    this.photo = photo; // the name under which the photo was sent, or null
    this.retryAfter = retryAfter; // seconds, or null
  }
}

const TIMEOUT_MS = 120_000; // an occlusion map on a slow machine takes its time
const KEY = "faceembed.key";

let key = stored();
let askForKey = async () => null;

function stored() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

/** Who asks the user for the key: `ask({ wrong })` gives it, or null where the user does not want to. */
export function onKeyWanted(ask) {
  askForKey = ask;
}

/** Whether a key was given. */
export function hasKey() {
  return key !== "";
}

/** Use this key from now on; it lasts as long as the browser's tab. */
export function setKey(value) {
  key = value;
  try {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  } catch {
    // Storage is switched off: it lasts until the page is left.
  }
}

/**
 * GET, or POST where there is a form or JSON, or `method`. `form` is a function, because a second attempt needs a body of its own.
 * Throws ApiError; an abort by `signal` is thrown as the browser's own AbortError.
 */
export async function call(path, { form = null, json = null, method = null, signal = null } = {}) {
  for (;;) {
    const used = key;
    const response = await send(path, { form, json, method }, signal, used);
    if (response.ok) return await read(response);
    const error = await failure(response);
    if (response.status !== 401) throw error;
    if (used !== key) continue; // another call was given the key meanwhile
    const given = await askForKey({ wrong: used !== "" });
    if (given === null) throw error;
    setKey(given);
  }
}

async function send(path, { form, json, method }, signal, used) {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const options = { signal: signal ? AbortSignal.any([signal, timeout]) : timeout, headers: {}, cache: "no-store" };
  if (used) options.headers["X-API-Key"] = used;
  if (form) Object.assign(options, { method: "POST", body: form() });
  if (json) {
    Object.assign(options, { method: "POST", body: JSON.stringify(json) });
    options.headers["Content-Type"] = "application/json";
  }
  if (method) options.method = method;
  try {
    return await fetch(path, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    if (error.name === "TimeoutError") throw new ApiError("timeout", "no answer in two minutes");
    throw new ApiError("offline", String(error.message));
  }
}

async function read(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("not_json", "the answer is not JSON", { status: response.status });
  }
}

async function failure(response) {
  const retry = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  const details = { status: response.status, retryAfter: Number.isNaN(retry) ? null : retry };
  let error = null;
  try {
    error = (await response.json()).error;
  } catch {
    // A proxy's error page: the status has to do.
  }
  if (typeof error?.message !== "string") return new ApiError(`http_${response.status}`, `HTTP ${response.status}`, details);
  return new ApiError(String(error.code), error.message, { ...details, photo: error.photo ?? null });
}

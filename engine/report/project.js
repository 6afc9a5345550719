"use strict";
// The map of `faceembed project`. Points are written into the canvas's pixels: 100,000 of them take a few milliseconds on any
// machine, with no graphics card and no library. Names only ever become text nodes.
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  const packed = new Uint16Array(bytes(data.places));
  const count = packed.length / 2;
  const xs = new Float32Array(count), ys = new Float32Array(count);
  for (let i = 0; i < count; i++) { xs[i] = packed[2 * i] / 65535; ys[i] = 1 - packed[2 * i + 1] / 65535; }
  const folder = new Uint32Array(bytes(data.folder));
  const tileOf = new Map();
  new Uint32Array(bytes(data.tiles)).forEach((row, tile) => tileOf.set(row, tile));
  const sheets = data.sheets.map((source) => { const image = new Image(); image.src = source; return image; });
  const groupings = data.groupings.map((g) => ({ ...g, of: new Uint16Array(bytes(g.of)), on: new Uint8Array(g.counts.length).fill(1) }));
  const canvas = $("map"), context = canvas.getContext("2d", { alpha: false });
  const view = { x: 0.5, y: 0.5, zoom: 1 };  // the middle of the stage, and how many times larger than all of it
  let grouping = groupings[0], matches = null, hovered = -1, pinned = -1, queued = false;
  let width = 0, height = 0, unit = 1, image = null, pixels = null, palette = null, background = 0, faint = 0;

  // ---------------------------------------------------------------------------------------------------------- colours
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  function rgb(css) {
    paint.fillStyle = css; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
  }
  const word = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;
  function css(index) {
    const style = getComputedStyle(document.documentElement), label = grouping.labels[index];
    if (label === undefined || label === "alone") return style.getPropertyValue("--faint");
    if (grouping.name === "real or fake") return style.getPropertyValue(label === "fake" ? "--fake" : "--same");
    const round = Math.floor(index / 8) % 3;
    const light = (dark.matches ? [64, 76, 54] : [46, 36, 58])[round];
    return `hsl(${(index * 137.508 + 215) % 360} ${[70, 55, 85][round]}% ${light}%)`;
  }
  function colours() {
    const style = getComputedStyle(document.documentElement);
    background = word(rgb(style.getPropertyValue("--card")));
    faint = word(rgb(style.getPropertyValue("--empty")));
    palette = Int32Array.from(grouping.counts, (_, index) => word(rgb(css(index))));
    document.querySelectorAll("#legend i").forEach((dot, index) => { dot.style.background = css(index); });
  }

  // ------------------------------------------------------------------------------------------------------------ drawing
  function resize() {
    const box = $("stage").getBoundingClientRect();
    const ratio = Math.min(devicePixelRatio || 1, Math.sqrt(4e6 / Math.max(1, box.width * box.height)));  // 4 million pixels at most
    width = Math.max(1, Math.round(box.width * ratio)); height = Math.max(1, Math.round(box.height * ratio));
    unit = ratio;
    canvas.width = width; canvas.height = height;
    image = context.createImageData(width, height);
    pixels = new Int32Array(image.data.buffer);
    draw();
  }
  const scale = () => 0.94 * Math.min(width, height) * view.zoom;
  function disc(radius) {
    const offsets = [], reach = Math.ceil(radius);
    for (let y = -reach; y <= reach; y++) for (let x = -reach; x <= reach; x++) if (x * x + y * y <= radius * radius) offsets.push([x, y]);
    return offsets;
  }
  function radius() {
    const crowd = Math.max(1.2, Math.min(4, 260 / Math.sqrt(count)));
    return unit * Math.min(7, crowd * Math.pow(view.zoom, 0.35));
  }
  function stamp(shape, x, y, colour) {
    for (const [dx, dy] of shape) {
      const px = x + dx, py = y + dy;
      if (px >= 0 && py >= 0 && px < width && py < height) pixels[py * width + px] = colour;
    }
  }
  function points(shape, reach, wanted, colourOf) {
    const s = scale(), ox = width / 2 - view.x * s, oy = height / 2 - view.y * s, of = grouping.of, on = grouping.on;
    const flat = Int32Array.from(shape, ([dx, dy]) => dy * width + dx), size = flat.length;
    for (let i = 0; i < count; i++) {
      if (!on[of[i]] || (matches !== null && matches[i] !== wanted)) continue;
      const x = Math.round(xs[i] * s + ox), y = Math.round(ys[i] * s + oy);
      if (x < -reach || y < -reach || x >= width + reach || y >= height + reach) continue;
      const colour = colourOf(i);
      if (x < reach || y < reach || x >= width - reach || y >= height - reach) { stamp(shape, x, y, colour); continue; }
      const at = y * width + x;
      for (let k = 0; k < size; k++) pixels[at + flat[k]] = colour;
    }
  }
  function draw() {
    queued = false;
    if (pixels === null) return;
    pixels.fill(background);
    const r = radius(), shape = disc(r), reach = Math.ceil(r) + 1, of = grouping.of;
    if (matches !== null) points(shape, reach, 0, () => faint);
    points(shape, reach, 1, (i) => palette[of[i]]);
    context.putImageData(image, 0, 0);
    for (const i of [pinned, hovered]) {
      if (i < 0) continue;
      const s = scale();
      context.beginPath();
      context.arc(width / 2 + (xs[i] - view.x) * s, height / 2 + (ys[i] - view.y) * s, r + 3 * unit, 0, 7);
      context.lineWidth = 2 * unit;
      context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--ink");
      context.stroke();
    }
  }
  function later() { if (!queued) { queued = true; requestAnimationFrame(draw); } }

  // ------------------------------------------------------------------------------------------------------- under the mouse
  const SIDE = 256, starts = new Uint32Array(SIDE * SIDE + 1), members = new Uint32Array(count);
  const cell = (v) => Math.min(SIDE - 1, Math.max(0, Math.floor(v * SIDE)));
  for (let i = 0; i < count; i++) starts[cell(ys[i]) * SIDE + cell(xs[i]) + 1]++;
  for (let c = 0; c < SIDE * SIDE; c++) starts[c + 1] += starts[c];
  const filled = starts.slice();
  for (let i = 0; i < count; i++) members[filled[cell(ys[i]) * SIDE + cell(xs[i])]++] = i;
  function place(event) {
    const box = canvas.getBoundingClientRect(), s = scale();
    return { x: view.x + ((event.clientX - box.left) * unit - width / 2) / s, y: view.y + ((event.clientY - box.top) * unit - height / 2) / s, box };
  }
  function nearest(x, y) {
    const reach = Math.max(12 * unit, radius() + 3 * unit) / scale();
    let best = -1, least = reach * reach;
    for (let cy = cell(y - reach); cy <= cell(y + reach); cy++) for (let cx = cell(x - reach); cx <= cell(x + reach); cx++) {
      for (let k = starts[cy * SIDE + cx]; k < starts[cy * SIDE + cx + 1]; k++) {
        const i = members[k];
        if (!grouping.on[grouping.of[i]] || (matches !== null && !matches[i])) continue;
        const d = (xs[i] - x) ** 2 + (ys[i] - y) ** 2;
        if (d < least) { least = d; best = i; }
      }
    }
    return best;
  }
  const path = (i) => `${data.folders[folder[i]]}/${data.names[i]}`;
  const labelOf = (g, i) => g.of[i] < g.labels.length ? g.labels[g.of[i]] : `one of ${g.rest.toLocaleString("en")} smaller groups`;
  function show(i, left, top) {
    const card = $("card"), [picture, text] = card.children;
    card.hidden = i < 0;
    if (i < 0) return;
    const tile = tileOf.get(i), per = data.columns * data.columns;
    picture.hidden = tile === undefined;
    if (tile !== undefined) {
      const at = tile % per;
      picture.getContext("2d").drawImage(sheets[Math.floor(tile / per)], (at % data.columns) * data.tile, Math.floor(at / data.columns) * data.tile, data.tile, data.tile, 0, 0, data.tile, data.tile);
    }
    const name = document.createElement("b");
    name.textContent = data.names[i];
    text.replaceChildren(name, ...groupings.flatMap((g) => [`${g.name}: ${labelOf(g, i)}`, document.createElement("br")]).slice(0, -1));
    const stage = $("stage");
    card.style.left = `${Math.max(4, Math.min(left + 16, stage.clientWidth - card.offsetWidth - 8))}px`;
    card.style.top = `${Math.max(4, top + 16 + card.offsetHeight > stage.clientHeight ? top - card.offsetHeight - 12 : top + 16)}px`;
  }
  function hover(event) {
    const { x, y, box } = place(event), i = nearest(x, y);
    show(i, event.clientX - box.left, event.clientY - box.top);
    if (i !== hovered) { hovered = i; later(); }
  }

  // ----------------------------------------------------------------------------------------------------------- moving
  function zoomAt(x, y, factor) {
    const zoom = Math.min(400, Math.max(0.5, view.zoom * factor)), ratio = view.zoom / zoom;
    view.x = x + (view.x - x) * ratio; view.y = y + (view.y - y) * ratio; view.zoom = zoom;
    later();
  }
  function fit() { view.x = view.y = 0.5; view.zoom = 1; later(); }
  const fingers = new Map();
  let moved = 0;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x, y } = place(event);
    zoomAt(x, y, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, event); moved = 0;
    canvas.classList.add("drag");
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (before === undefined) { hover(event); return; }
    const others = [...fingers.values()].filter((f) => f.pointerId !== event.pointerId);
    const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
    moved += Math.abs(dx) + Math.abs(dy);
    view.x -= dx * unit / scale() / fingers.size; view.y -= dy * unit / scale() / fingers.size;
    if (others.length === 1) {
      const span = (e) => Math.hypot(e.clientX - others[0].clientX, e.clientY - others[0].clientY);
      const middle = place({ clientX: (event.clientX + others[0].clientX) / 2, clientY: (event.clientY + others[0].clientY) / 2 });
      zoomAt(middle.x, middle.y, Math.max(1, span(event)) / Math.max(1, span(before)));
    }
    fingers.set(event.pointerId, event);
    later();
  });
  const release = (event) => {
    fingers.delete(event.pointerId);
    canvas.classList.remove("drag");
    if (event.type === "pointerup" && moved < 4) {
      hover(event);
      pinned = hovered;
      $("found").textContent = pinned < 0 ? "" : path(pinned);
      later();
    }
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => { show(-1); hovered = -1; later(); });
  canvas.addEventListener("dblclick", (event) => { const { x, y } = place(event); zoomAt(x, y, 2); });
  canvas.addEventListener("keydown", (event) => {
    const step = 0.1 / view.zoom;
    const act = {
      ArrowLeft: () => { view.x -= step; }, ArrowRight: () => { view.x += step; }, ArrowUp: () => { view.y -= step; }, ArrowDown: () => { view.y += step; },
      "+": () => zoomAt(view.x, view.y, 1.3), "=": () => zoomAt(view.x, view.y, 1.3), "-": () => zoomAt(view.x, view.y, 1 / 1.3), 0: fit,
    }[event.key];
    if (act && !event.ctrlKey && !event.metaKey) { act(); later(); event.preventDefault(); }
  });
  $("in").onclick = () => zoomAt(view.x, view.y, 1.5);
  $("out").onclick = () => zoomAt(view.x, view.y, 1 / 1.5);
  $("fit").onclick = fit;

  // ------------------------------------------------------------------------------------------------- search and legend
  let lowered = null;
  function search() {
    const wanted = $("search").value.trim().toLowerCase();
    pinned = hovered = -1;
    show(-1);
    if (wanted === "") { matches = null; $("found").textContent = ""; later(); return; }
    lowered = lowered || data.names.map((_, i) => path(i).toLowerCase());
    matches = new Uint8Array(count);
    let found = 0;
    for (let i = 0; i < count; i++) if (lowered[i].includes(wanted)) { matches[i] = 1; found++; }
    $("found").textContent = `${found.toLocaleString("en")} of ${count.toLocaleString("en")} faces; Enter goes there`;
    later();
  }
  $("search").addEventListener("input", search);
  $("search").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || matches === null || !matches.includes(1)) return;
    let [left, right, top, bottom] = [1, 0, 1, 0];
    for (let i = 0; i < count; i++) if (matches[i]) {
      left = Math.min(left, xs[i]); right = Math.max(right, xs[i]); top = Math.min(top, ys[i]); bottom = Math.max(bottom, ys[i]);
    }
    view.x = (left + right) / 2; view.y = (top + bottom) / 2;
    view.zoom = Math.min(60, 0.8 / Math.max(right - left, bottom - top, 1e-3));
    later();
  });
  function legend() {
    const rows = grouping.counts.map((size, index) => {
      const row = document.createElement("li"), label = document.createElement("label"), box = document.createElement("input");
      const dot = document.createElement("i"), name = document.createElement("span"), number = document.createElement("span");
      box.type = "checkbox"; box.checked = grouping.on[index] === 1;
      box.onchange = () => { grouping.on[index] = box.checked ? 1 : 0; hovered = -1; later(); };
      name.className = "name"; number.className = "count";
      name.textContent = name.title = index < grouping.labels.length ? grouping.labels[index] : `${grouping.rest.toLocaleString("en")} smaller groups`;
      number.textContent = size.toLocaleString("en");
      label.append(box, dot, name, number); row.append(label);
      return row;
    });
    $("legend").replaceChildren(...rows);
    colours();
    later();
  }
  function all(value) {
    grouping.on.fill(value);
    document.querySelectorAll("#legend input").forEach((box) => { box.checked = value === 1; });
    later();
  }
  $("every").onclick = () => all(1);
  $("none").onclick = () => all(0);
  groupings.forEach((g, index) => $("grouping").add(new Option(g.name, index)));
  $("grouping").onchange = () => { grouping = groupings[$("grouping").value]; legend(); };
  dark.addEventListener("change", () => { colours(); later(); });
  legend();
  new ResizeObserver(resize).observe($("stage"));
  resize();
  window.faceMap = { draw, view, count };
})();

// The page: a file is dropped, chosen or named by ?src=, and the worker decodes it.

const at = (id) => document.getElementById(id);
let worker = null;
const shown = { bytes: null, name: "picture", index: null, job: 0, asked: null };

function ask(how) {
  shown.job++;
  shown.asked = { job: shown.job, ...how };
  worker ??= started();
  worker.postMessage(shown.asked);
}

function say(text, error = false) {
  at("about").textContent = text;
  at("about").classList.toggle("error", error);
}

function clear() {
  for (const id of ["levels", "download", "back", "picture", "sheet", "progress"]) at(id).hidden = true;
  at("sheet").replaceChildren();
}

function open(file, name) {
  clear();
  if (document.body.dataset.state === "busy") {
    worker?.terminate(); // it hears of this only when it is done
    worker = null;
  }
  Object.assign(shown, { bytes: null, index: null, name: name.replace(/\.vqc$/i, "") });
  document.body.dataset.state = "busy";
  say("Decoding …");
  if (file instanceof Uint8Array) {
    shown.bytes = file;
    ask({ bytes: file });
  } else ask({ src: file });
}

function imageOf({ width, height, data }) {
  return new ImageData(data, width, height);
}

/** Draws what was decoded; colours of a profile are made the screen's by the browser. */
async function draw(canvas, picture) {
  let source = null;
  if (picture.png) {
    const options = { imageOrientation: "none", premultiplyAlpha: "none" };
    source = await createImageBitmap(picture.png, options).catch(() => null);
  }
  canvas.width = picture.width;
  canvas.height = picture.height;
  const context = canvas.getContext("2d");
  if (source) context.drawImage(source, 0, 0);
  else context.putImageData(imageOf(picture), 0, 0);
  canvas.hidden = false;
}

function size(bytes) {
  return bytes < 1000 ? `${bytes} bytes` : `${(bytes / 1000).toFixed(1)} kB`;
}

function describe({ width, height, grey, alpha, codec, rate, tune, levels, sections, draft, gpu }, seconds) {
  const parts = [`${width} × ${height}${grey ? " grey" : ""}${alpha ? " with alpha" : ""}`];
  if (shown.bytes && shown.index === null) {
    const bpp = (8 * shown.bytes.length) / (width * height);
    parts.push(`${size(shown.bytes.length)}, ${bpp.toFixed(3)} bits per pixel`);
  }
  parts.push(`${codec}, ${Number(rate.toFixed(3))}bit${tune ? `, tuned for ${tune}` : ""}`);
  parts.push(`level ${levels} of ${sections}${draft ? " (draft)" : ""}`);
  if (seconds !== undefined) parts.push(`${seconds.toFixed(2)} s${gpu ? " with WebGPU" : ""}`);
  return parts.join(" · ");
}

async function show(picture, seconds, whole) {
  await draw(at("picture"), picture);
  say(describe(picture, seconds));
  document.body.dataset.levels = `${document.body.dataset.levels ?? ""} ${picture.levels}`.trim();
  if (!whole) return;
  at("progress").hidden = true;
  Object.assign(at("level"), { max: picture.sections, value: picture.levels });
  at("of").textContent = `${picture.levels} of ${picture.sections}`;
  at("levels").hidden = false;
}

function offer({ png }) {
  URL.revokeObjectURL(at("download").href);
  at("download").href = URL.createObjectURL(png);
  at("download").download = `${shown.name}.png`;
  at("download").hidden = false;
  document.body.dataset.state = "done";
}

async function thumbnail({ index, name, picture, error }) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  const title = name || `${index + 1}`;
  if (error) button.textContent = `${title}: ${error}`;
  else {
    const canvas = document.createElement("canvas");
    await draw(canvas, picture);
    button.append(canvas, title);
    button.onclick = () => {
      at("sheet").hidden = true;
      at("back").hidden = false;
      shown.index = index;
      shown.name = title.replace(/[^\p{L}\p{N} _.-]/gu, "_");
      ask({ bytes: shown.bytes, index });
    };
  }
  item.append(button);
  at("sheet").append(item);
}

const answers = {
  bytes: ({ bytes }) => void (shown.bytes = bytes),
  preview: ({ picture, seconds }) => show(picture, seconds, false),
  progress({ share, seconds }) {
    at("progress").value = share;
    at("progress").hidden = seconds < 1;
  },
  picture: ({ picture, seconds }) => show(picture, seconds, true),
  png: offer,
  archive({ count }) {
    say(`${count} pictures, ${size(shown.bytes.length)}`);
    at("sheet").hidden = false;
  },
  thumbnail,
  end: () => void (document.body.dataset.state = "done"),
  error({ error }) {
    say(error, true);
    at("progress").hidden = true;
    document.body.dataset.state = "error";
  },
};

let queue = Promise.resolve(); // drawing may wait; what comes next then waits, too
function started(tries = 3) {
  const made = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  made.onmessage = ({ data }) => {
    queue = queue.then(() => (data.job === shown.job ? answers[data.kind](data) : null));
  };
  made.onerror = ({ message }) => {
    if (message || tries === 1) answers.error({ error: message || "the decoder cannot be loaded" });
    else {
      // WebKit fails at times to load it, of which it says nothing more
      worker = started(tries - 1);
      worker.postMessage(shown.asked);
    }
  };
  return made;
}

at("level").oninput = () => {
  at("of").textContent = `${at("level").value} of ${at("level").max}`;
};
at("level").onchange = () => {
  const levels = Number(at("level").value);
  ask({ bytes: shown.bytes, index: shown.index, levels });
};
at("back").onclick = () => open(shown.bytes, shown.name);

async function take(file) {
  if (file) open(new Uint8Array(await file.arrayBuffer()), file.name);
}
at("file").onchange = (event) => take(event.target.files[0]);
for (const name of ["dragover", "dragleave", "drop"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files[0]);
  });
}

/** Loads the page once more where that isolates it, for threads; false where it does. */
async function settled() {
  const tried = sessionStorage.getItem("isolated");
  if (crossOriginIsolated || tried || !navigator.serviceWorker) return true;
  sessionStorage.setItem("isolated", "tried");
  try {
    await navigator.serviceWorker.register(new URL("isolate.js", import.meta.url));
    const late = new Promise((resolve) => setTimeout(resolve, 3000)); // where it cannot be installed
    await Promise.race([navigator.serviceWorker.ready, late]);
  } catch {
    return true; // without threads, then
  }
  location.reload();
  return false;
}

const ready = await settled();
if (ready) document.body.dataset.state = "ready";
const src = ready && new URLSearchParams(location.search).get("src");
if (src) {
  const place = new URL(src, location.href);
  open(place.href, decodeURIComponent(place.pathname.split("/").pop()));
}

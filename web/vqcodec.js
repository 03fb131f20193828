// Decodes .vqc files: docs/format.md says what they are. Runs in browsers and in Node.
//
//     import { decode, ownModels } from "./vqcodec.js";
//     const { width, height, data } = await decode(bytes, { models: ownModels() });

import { MOST_PIXELS, VqcError, readArchive, readPicture } from "./container.js";
import { LadderDecoder } from "./ladder.js";
import { Models } from "./models.js";
import { readAlpha } from "./png.js";

export { Models, VqcError, readArchive, readPicture };

const PIXELS = 6; // sections could be decoded in the time that pixels take, about

/**
 * What stands beside this file: codecs in `models`, the runtime in `ort`. For browsers. `software`
 * takes a WebGPU that is no GPU, too: for tests, as WebAssembly is faster.
 */
export function ownModels({ software = false } = {}) {
  const load = async (path) => {
    const response = await fetch(new URL(path, import.meta.url));
    return response.ok ? new Uint8Array(await response.arrayBuffer()) : null;
  };
  const runtime = async () => {
    const ort = await ((await hasGpu(software))
      ? import("./ort/ort.jspi.min.mjs")
      : import("./ort/ort.wasm.min.mjs"));
    // Threads share memory, which browsers allow to pages that a server isolates
    ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? 2 : 1;
    return ort;
  };
  return new Models(load, runtime);
}

/** Whether there is WebGPU, and WebAssembly that can wait for it, for which there is a build of the runtime. */
async function hasGpu(software) {
  if (!WebAssembly.Suspending || !navigator.gpu) return false;
  const late = new Promise((resolve) => setTimeout(resolve, 3000, null)); // where a driver hangs
  const adapter = await Promise.race([navigator.gpu.requestAdapter().catch(() => null), late]);
  return adapter !== null && (software || !adapter.info.isFallbackAdapter);
}

/**
 * The picture of a file as { width, height, data (RGBA), grey, alpha, icc, exif, levels, sections,
 * codec, rate, tune }. Throws VqcError for what is not a sound file.
 *
 * `source` is the whole file (Uint8Array), or the file as it comes (ReadableStream). `levels` says
 * how many sections to decode, `index` which picture of an archive, from 1. `onPreview(picture)`,
 * whose promise is waited for, is told what a prefix of the sections makes: at first a draft, from
 * one or two; then, whenever more sections have come but not all, what they decode to. `onBytes(bytes)`
 * is told the whole file before it is decoded, and may return false to leave it at that.
 * `onProgress(share)` is told the share of the work that is done.
 */
export async function decode(source, options = {}) {
  const { levels = null, index = 1, onBytes = null } = options;
  const decoding = new Decoding(options);
  let bytes = source;
  if (!(source instanceof Uint8Array)) {
    bytes = await readAll(source, async (part) => {
      const found = readPicture(part, false);
      if (found && !found.header.archive) await decoding.preview(found);
    });
  }
  if (onBytes?.(bytes) === false) return null;
  let found = levels ? prefix(bytes, levels) : readPicture(bytes);
  if (found.header.archive || index !== 1) found = readArchive(bytes).picture(index - 1);
  const count = levels ?? found.header.sections;
  if (!(count >= 1 && count <= found.header.sections)) {
    throw new VqcError("UsageError", `the file has levels 1 to ${found.header.sections}`);
  }
  return decoding.picture(found, count);
}

/** What a file holds, or, where something after its first sections is damaged, these alone. */
function prefix(bytes, levels) {
  try {
    return readPicture(bytes);
  } catch {
    return readPicture(bytes, true, levels);
  }
}

/** One picture, whose sections may come one after the other. */
class Decoding {
  constructor({ models, onPreview = null, onProgress = null, maxPixels = MOST_PIXELS, levels = null }) {
    Object.assign(this, { models, onPreview, onProgress, maxPixels });
    this.most = levels ?? 255;
    this.decoder = null;
    this.shown = 0; // levels of the last preview
  }

  async #start(header) {
    if (this.decoder) return;
    if (header.width * header.height > this.maxPixels) {
      const [size, most] = [header.width * header.height, this.maxPixels].map((n) => Math.round(n / 1e6));
      throw new VqcError("SizeError", `a picture of ${size} megapixels, of which ${most} are decoded at most`);
    }
    this.codec = await this.models.get(header);
    this.decoder = new LadderDecoder(this.codec.prior, header);
    this.codec.synthesis(this.decoder.point).catch(() => {}); // begins to load; #made sees errors
  }

  /** Shows a draft where nothing was shown yet. */
  async #draft({ header, sections }) {
    const { decoder } = this;
    const count = Math.min(2, sections.length, this.most);
    if (!this.onPreview || this.shown || !count || decoder.sections >= count) return;
    this.#add(sections, count);
    this.shown = count;
    await this.onPreview(this.#described(header, decoder.draft(header), { draft: true }));
  }

  /** Shows what the sections that have come make, where that is something new. */
  async preview(found) {
    const { header, sections } = found;
    await this.#start(header);
    const count = Math.min(sections.length, this.most);
    if (!this.shown) return this.#draft(found);
    if (count <= this.shown || count === header.sections) return;
    this.#add(sections, count);
    this.shown = count;
    if (this.onPreview) await this.onPreview(await this.#made(header));
  }

  async picture(found, count) {
    const { header, sections, boxes } = found;
    await this.#start(header);
    if (count > 2) await this.#draft(found);
    this.#add(sections, count);
    const made = await this.#made(header, (share) => this.#done(share));
    made.icc = boxes.get("ICC ") ?? null;
    made.exif = boxes.get("EXIF") ?? null;
    made.alpha = boxes.has("ALPH");
    if (made.alpha) {
      const alpha = await readAlpha(boxes.get("ALPH"), header.width, header.height);
      for (let i = 0; i < alpha.length; i++) made.data[4 * i + 3] = alpha[i];
    }
    return made;
  }

  #add(sections, count) {
    const { decoder } = this;
    while (decoder.sections < count) {
      decoder.add(sections[decoder.sections]);
      this.#done(0);
    }
  }

  /** Tells how far it is; `share` is that of the pixels. */
  #done(share) {
    const { sections, coded } = this.decoder;
    this.onProgress?.((sections + PIXELS * share) / (coded + 1 + PIXELS));
  }

  async #made(header, onShare = null) {
    const { codec, decoder } = this;
    const latent = decoder.finish();
    const synthesis = await codec.synthesis(decoder.point);
    const { data, gpu } = await synthesis.pixels(latent, decoder.point, header, onShare);
    return this.#described(header, data, { gpu });
  }

  #described({ width, height, grey, sections }, data, more = {}) {
    const { point, sections: levels } = this.decoder;
    const beside = { grey, alpha: false, icc: null, exif: null };
    const how = { codec: this.codec.id, rate: point.rate / 256, tune: point.tune };
    return { width, height, data, ...beside, levels, sections, ...how, ...more };
  }
}

/** All of a stream; `onPart` is told what is there whenever no more has come yet. */
async function readAll(stream, onPart) {
  const reader = stream.getReader();
  let bytes = new Uint8Array(65536);
  let count = 0;
  try {
    for (let waiting = reader.read(); ; ) {
      const { done, value } = await waiting;
      if (done) return bytes.slice(0, count);
      if (count + value.length > bytes.length) {
        const more = new Uint8Array(2 * (count + value.length));
        more.set(bytes.subarray(0, count));
        bytes = more;
      }
      bytes.set(value, count);
      count += value.length;
      waiting = reader.read();
      const pause = new Promise((resolve) => setTimeout(resolve, 0, null));
      if ((await Promise.race([waiting, pause])) === null) await onPart(bytes.slice(0, count));
    }
  } catch (error) {
    await reader.cancel().catch(() => {});
    throw error;
  }
}

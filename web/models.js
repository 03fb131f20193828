// The codecs that a page has: files that `vqcodec export --web` wrote, loaded when they are needed.

import { VqcError } from "./container.js";
import { useKernel } from "./exact.js";
import { LadderModel } from "./ladder.js";
import { readTensors } from "./safetensors.js";
import { Synthesis } from "./synthesis.js";

/** Codecs by number and hash, each loaded once. */
export class Models {
  /**
   * `load(path)` gives the bytes of a file (a promise), or null where there is none; `ort()` gives
   * onnxruntime-web (a promise).
   */
  constructor(load, ort) {
    this.load = load;
    this.ort = ort;
    this.loaded = new Map();
  }

  /** The codec { id, title, prior, synthesis(point) } of a file with this header. */
  get(header) {
    const key = `${header.codec}-${header.weights}`;
    if (!this.loaded.has(key)) this.loaded.set(key, this.#open(key, header));
    return this.loaded.get(key);
  }

  async #open(key, header) {
    this.kernel ??= this.load("kernel.wasm").then(useKernel);
    const [bytes] = await Promise.all([this.load(`models/${key}.safetensors`), this.kernel]);
    if (!bytes) {
      this.loaded.delete(key);
      throw new VqcError("CodecError", `the codec with number ${header.codec} is not here`);
    }
    const tensors = readTensors(bytes);
    const info = JSON.parse(tensors.metadata.vqcodec);
    const prior = new LadderModel(tensors, info);
    let synthesis = null;
    return {
      id: info.id,
      title: info.title,
      prior,
      /** The network that makes pixels, which is loaded when it is first asked for. */
      synthesis: (point) => (synthesis ??= this.#synthesis(key, point)),
    };
  }

  async #synthesis(key, point) {
    const [ort, bytes] = await Promise.all([
      this.ort(),
      this.load(`models/${key}.onnx`),
    ]);
    if (!bytes) throw new VqcError("CodecError", `the file ${key}.onnx is missing`);
    return Synthesis.open(ort, bytes, point);
  }
}

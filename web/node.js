// What vqcodec.js needs in Node: codecs and the runtime from files. See build.mjs.

import { readFile } from "node:fs/promises";
import { Models } from "./vqcodec.js";

/** The codecs in the folder `models` of `folder`, by default that of this file. */
export function nodeModels(folder = new URL("./", import.meta.url)) {
  const load = async (path) => {
    const place = new URL(path, path.startsWith("models/") ? folder : import.meta.url);
    try {
      return new Uint8Array(await readFile(place));
    } catch (error) {
      if (error.code === "ENOENT") return null;
      throw error;
    }
  };
  const runtime = async () => {
    const ort = await import("./ort/ort.wasm.min.mjs");
    ort.env.wasm.numThreads = 1;
    return ort;
  };
  return new Models(load, runtime);
}

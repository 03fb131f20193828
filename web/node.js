// What vqcodec.js needs in Node: codecs and the runtime from files. See build.mjs.

import { readFile } from "node:fs/promises";
import { Models } from "./vqcodec.js";

/** The codecs in the folder `models` beside this file, and the runtime in the folder `ort`. */
export function nodeModels() {
  const load = async (path) => {
    try {
      return new Uint8Array(await readFile(new URL(path, import.meta.url)));
    } catch (error) {
      if (error.code === "ENOENT") return null;
      throw error;
    }
  };
  const runtime = async () => {
    const ort = await import("./ort/ort.wasm.min.mjs");
    ort.env.wasm.numThreads = 1; // it starts more in browsers alone
    return ort;
  };
  return new Models(load, runtime);
}

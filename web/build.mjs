// Builds what is not kept in the repository: kernel.wasm, and the folder ort of the runtime.

import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import wabt from "wabt";

const here = new URL("./", import.meta.url);
const tools = await wabt();
const source = readFileSync(new URL("kernel.wat", here), "utf8");
const module = tools.parseWat("kernel.wat", source, { simd: true });
writeFileSync(new URL("kernel.wasm", here), module.toBinary({}).buffer);

mkdirSync(new URL("ort", here), { recursive: true });
// A visit loads one of the two: the second, which is larger, where there is WebGPU.
const builds = { wasm: "ort-wasm-simd-threaded", jspi: "ort-wasm-simd-threaded.jspi" };
const names = Object.entries(builds).flatMap(([kind, name]) => [`ort.${kind}.min.mjs`, `${name}.mjs`, `${name}.wasm`]);
for (const name of names) {
  const from = new URL(`node_modules/onnxruntime-web/dist/${name}`, here);
  copyFileSync(from, new URL(`ort/${name}`, here));
}

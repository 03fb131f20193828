// Builds what is not kept in the repository: kernel.wasm, and the folder ort of the runtime.

import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import wabt from "wabt";

const here = new URL("./", import.meta.url);
const tools = await wabt();
const source = readFileSync(new URL("kernel.wat", here), "utf8");
const module = tools.parseWat("kernel.wat", source, { simd: true });
writeFileSync(new URL("kernel.wasm", here), module.toBinary({}).buffer);

mkdirSync(new URL("ort", here), { recursive: true });
const names = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];
for (const name of names) {
  const from = new URL(`node_modules/onnxruntime-web/dist/${name}`, here);
  copyFileSync(from, new URL(`ort/${name}`, here));
}

// Decodes files for the tests, in Node; it lies in a copy of web/.
//
// Each line of standard input is a job in JSON: { file, out, levels, index, codes, stream, float, piece }.
// Each line of standard output is what came of it; pixels are written to `out` as bytes of RGBA.

import { readFile, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { codesHash } from "./codes.js";
import { useKernel } from "./exact.js";
import { LadderDecoder } from "./ladder.js";
import { nodeModels } from "./node.js";
import { Synthesis } from "./synthesis.js";
import { VqcError, decode, readPicture } from "./vqcodec.js";

const models = nodeModels();

async function withoutKernel(work) {
  await (models.kernel ??= models.load("kernel.wasm").then(useKernel));
  await useKernel(null);
  const made = await work();
  await models.load("kernel.wasm").then(useKernel);
  return made;
}

/** The bytes one section after the other, with time between them. */
function slowly(bytes) {
  const { header } = readPicture(bytes);
  let end = header.bytes.length;
  const ends = [];
  for (let n = 1; n < header.sections; n++) {
    while (readPicture(bytes.subarray(0, end), false).sections.length < n) end++;
    ends.push(end);
  }
  let at = 0;
  return new ReadableStream({
    async pull(controller) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      const next = ends.shift() ?? bytes.length;
      controller.enqueue(bytes.slice(at, next));
      at = next;
      if (at === bytes.length) controller.close();
    },
  });
}

async function run({ file, out, levels, index, codes, stream, float, piece = 8192 }) {
  const bytes = new Uint8Array(await readFile(file));
  LadderDecoder.band = Synthesis.strip = piece;
  try {
    if (codes && !float) return { codes: await codesHash(models, bytes, index) };
    if (codes) return { codes: await withoutKernel(() => codesHash(models, bytes, index)) };
    const previews = [];
    const onPreview = stream ? (picture) => void previews.push(picture) : null;
    const source = stream ? slowly(bytes) : bytes;
    const options = { models, levels, index, onPreview, maxPixels: 1 << 17 };
    const { data, ...about } = await decode(source, options);
    await writeFile(out, data);
    for (const { levels: n, draft, data: pixels } of previews) await writeFile(`${out}.${n}`, pixels);
    const seen = previews.map(({ levels: n, draft = false }) => ({ levels: n, draft }));
    return { ...about, icc: about.icc?.length, exif: about.exif?.length, previews: seen };
  } catch (error) {
    if (error instanceof VqcError) return { error: error.kind, message: error.message };
    return { crash: error.stack };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  const start = performance.now();
  const result = await run(job);
  console.log(JSON.stringify({ ...result, seconds: (performance.now() - start) / 1000 }));
}

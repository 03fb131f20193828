// Decodes files for the tests, in Node; it lies in a copy of web/.
//
// Each line of standard input is a job in JSON: { file, out, levels, index, codes, stream, float, piece, gpu }.
// Each line of standard output is what came of it; pixels are written to `out` as bytes of RGBA.

import { readFile, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { codesHash } from "./codes.js";
import { useKernel } from "./exact.js";
import { LadderDecoder } from "./ladder.js";
import { nodeModels } from "./node.js";
import { Synthesis } from "./synthesis.js";
import { Models, VqcError, decode, readPicture } from "./vqcodec.js";

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

/** Codecs with a WebGPU that is WebAssembly, and off by a step or has the named fault. */
async function withGpu(fault) {
  const { Tensor, InferenceSession } = await models.ort();
  const create = async (bytes, { executionProviders, ...options }) => {
    const session = await InferenceSession.create(bytes, options);
    if (!executionProviders) return session;
    if (fault === "missing") throw new Error(fault);
    let runs = 0;
    const run = async (feeds) => {
      const { pixels } = await session.run(feeds);
      const proven = ++runs > 2;
      if (fault === "slow") await new Promise((resolve) => setTimeout(resolve, 500));
      if (fault === "lost" && proven) throw new Error(fault);
      if (fault === "blank" && proven) pixels.data.fill(7);
      else pixels.data.forEach((value, i) => (pixels.data[i] = value ^ (fault === "wrong" ? 2 : 1)));
      return { pixels };
    };
    return { run, release: () => session.release() };
  };
  return new Models(models.load, async () => ({ Tensor, InferenceSession: { create } }));
}

async function run({ file, out, levels, index, codes, stream, float, piece = 8192, gpu = null }) {
  const bytes = new Uint8Array(await readFile(file));
  LadderDecoder.band = Synthesis.strip = piece;
  Synthesis.large = 0;
  Synthesis.slowest = gpu === "slow" ? 1 : Infinity;
  try {
    if (codes && !float) return { codes: await codesHash(models, bytes, index) };
    if (codes) return { codes: await withoutKernel(() => codesHash(models, bytes, index)) };
    const previews = [];
    const onPreview = stream ? (picture) => void previews.push(picture) : null;
    const source = stream ? slowly(bytes) : bytes;
    const using = gpu ? await withGpu(gpu) : models;
    const progress = [];
    const onProgress = (share) => void progress.push(share);
    const options = { models: using, levels, index, onPreview, onProgress, maxPixels: 1 << 17 };
    const { data, ...about } = await decode(source, options);
    await writeFile(out, data);
    for (const { levels: n, draft, data: pixels } of previews) await writeFile(`${out}.${n}`, pixels);
    const seen = previews.map(({ levels: n, draft = false }) => ({ levels: n, draft }));
    return { ...about, icc: about.icc?.length, exif: about.exif?.length, previews: seen, progress };
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

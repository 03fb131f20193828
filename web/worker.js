// Decodes beside the page. A message { job, bytes or src, levels, index } is answered by messages
// { job, kind, ... }; the next message ends the work on the one before.

import { decode, ownModels, readArchive, readPicture } from "./vqcodec.js";

const models = ownModels();
let current = 0;

const said = (error) => error.message || String(error);

async function run({ bytes, src, levels = null, index = null }, tell) {
  let source = bytes;
  if (src) {
    const response = await fetch(src);
    if (!response.ok) throw new Error(`${src}: ${response.status} ${response.statusText}`);
    source = response.body;
  }
  const start = performance.now();
  const seconds = () => (performance.now() - start) / 1000;
  const onPreview = levels ? null : (picture) => tell({ kind: "preview", picture, seconds: seconds() });
  const onBytes = (whole) => {
    bytes = whole;
    if (src) tell({ kind: "bytes", bytes });
    return index !== null || !readPicture(bytes, false)?.header.archive;
  };
  const picture = await decode(source, { models, levels, index: (index ?? 0) + 1, onPreview, onBytes });
  if (picture) tell({ kind: "picture", picture, seconds: seconds() });
  else await sheet(bytes, tell);
}

/** Tells of an archive's pictures, one after the other. */
async function sheet(bytes, tell) {
  const archive = readArchive(bytes);
  tell({ kind: "archive", count: archive.count });
  for (let index = 0; index < archive.count; index++) {
    let answer;
    try {
      const { boxes } = archive.picture(index);
      const name = boxes.has("NAME") ? new TextDecoder().decode(boxes.get("NAME")) : null;
      answer = { index, name, picture: await decode(bytes, { models, index: index + 1 }) };
    } catch (error) {
      answer = { index, error: said(error) };
    }
    tell({ kind: "thumbnail", ...answer });
    await new Promise((resolve) => setTimeout(resolve)); // lets the next message come in
  }
  tell({ kind: "end" });
}

onmessage = async ({ data }) => {
  const { job } = data;
  current = job;
  const stopped = new Error();
  const tell = (answer) => {
    if (job !== current) throw stopped;
    const pixels = answer.picture?.data.buffer;
    postMessage({ job, ...answer }, pixels ? [pixels] : []);
  };
  try {
    await run(data, tell);
  } catch (error) {
    if (error !== stopped) postMessage({ job, kind: "error", error: said(error) });
  }
};

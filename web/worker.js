// Decodes beside the page. A message { job, bytes or src, levels, index } is answered by messages
// { job, kind, ... }; the next message ends the work on the one before.

import { upright, writePng } from "./png.js";
import { decode, ownModels, readArchive, readPicture } from "./vqcodec.js";

const models = ownModels();
let current = 0;

function said(error) {
  if (/alloc|memory/i.test(error.message)) return "there is not enough memory for this picture";
  return error.message || String(error);
}

function png(picture) {
  return writePng({ ...picture, exif: picture.exif && upright(picture.exif) });
}

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
  const onProgress = (share) => tell({ kind: "progress", share, seconds: seconds() });
  const how = { models, levels, index: (index ?? 0) + 1, onPreview, onProgress, onBytes };
  const picture = await decode(source, how);
  if (!picture) return sheet(bytes, tell);
  const made = picture.icc && (await png(picture)); // colours of a profile are drawn by it
  const data = made ? picture.data : picture.data.slice(); // what is told is gone
  tell({ kind: "picture", picture: { ...picture, data, png: made }, seconds: seconds() });
  tell({ kind: "png", png: made ?? (await png(picture)) });
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
      const picture = await decode(bytes, { models, index: index + 1 });
      if (picture.icc) picture.png = await png(picture);
      answer = { index, name, picture };
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

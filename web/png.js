// Reads the alpha channel's PNG, and writes the decoded picture as a PNG. Inflating is the platform's.

import { VqcError, crc32 } from "./container.js";

const MAGIC = [137, 80, 78, 71, 13, 10, 26, 10];
const broken = (why) => new VqcError("FormatError", `broken alpha: ${why}`);
const code = (type) => Uint8Array.from(type, (letter) => letter.charCodeAt(0));

/** Alpha (height * width) of a PNG of exactly that size, 8-bit grey and not interlaced. */
export async function readAlpha(png, width, height) {
  if (!MAGIC.every((byte, i) => png[i] === byte)) throw broken("no PNG");
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  const parts = [];
  let [started, ended] = [false, false];
  for (let at = 8; !ended; ) {
    if (at + 12 > png.length) throw broken("it ends early");
    const length = view.getUint32(at);
    if (length > png.length - at - 12) throw broken("it ends early");
    const type = png.subarray(at + 4, at + 8);
    const data = png.subarray(at + 8, at + 8 + length);
    if (view.getUint32(at + 8 + length) !== crc32(type, data)) throw broken("a checksum differs");
    const name = String.fromCharCode(...type);
    if (!started !== (name === "IHDR")) throw broken("its header");
    if (name === "IHDR") {
      const size = view.getUint32(at + 8) === width && view.getUint32(at + 12) === height;
      if (length !== 13 || !size || data[8] !== 8 || data[9] !== 0 || data[12] !== 0) {
        throw broken(`not ${width} x ${height} grey`);
      }
      started = true;
    } else if (name === "IDAT") parts.push(data);
    else if (name === "acTL") throw broken("it is animated");
    ended = name === "IEND";
    at += length + 12;
  }
  return unfiltered(await inflated(parts, height * (width + 1)), width, height);
}

/** Exactly `size` bytes from a stream of zlib, or an error. */
async function inflated(parts, size) {
  const out = new Uint8Array(size);
  let count = 0;
  try {
    const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
    const reader = stream.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (value.length > size - count) {
        await reader.cancel();
        throw broken("too much data");
      }
      out.set(value, count);
      count += value.length;
    }
  } catch (error) {
    throw error instanceof VqcError ? error : broken(error.message);
  }
  if (count < size) throw broken("too little data");
  return out;
}

function unfiltered(rows, width, height) {
  const out = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const filter = rows[y * (width + 1)];
    if (filter > 4) throw broken("an unknown filter");
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      const left = x ? out[at - 1] : 0;
      const up = y ? out[at - width] : 0;
      const corner = x && y ? out[at - width - 1] : 0;
      let guess = 0;
      if (filter === 1) guess = left;
      else if (filter === 2) guess = up;
      else if (filter === 3) guess = (left + up) >> 1;
      else if (filter === 4) guess = paeth(left, up, corner);
      out[at] = rows[y * (width + 1) + 1 + x] + guess;
    }
  }
  return out;
}

function paeth(left, up, corner) {
  const sum = left + up - corner;
  const [a, b, c] = [Math.abs(sum - left), Math.abs(sum - up), Math.abs(sum - corner)];
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

/** A decoded picture { width, height, data, grey, alpha, icc, exif } as a PNG, a Blob. */
export async function writePng({ width, height, data, grey, alpha, icc, exif }) {
  const pick = [...(grey ? [0] : [0, 1, 2]), ...(alpha ? [3] : [])];
  const n = pick.length;
  const rows = new Uint8Array(height * (width * n + 1));
  for (let y = 0; y < height; y++) {
    const start = y * (width * n + 1);
    rows[start] = 1; // each sample is stored as its difference from the one to the left
    for (let x = 0; x < width; x++) {
      for (let i = 0; i < n; i++) {
        const at = 4 * (y * width + x) + pick[i];
        rows[start + 1 + x * n + i] = data[at] - (x ? data[at - 4] : 0);
      }
    }
  }
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8);
  header.setUint8(9, (grey ? 0 : 2) + (alpha ? 4 : 0));
  const chunks = [Uint8Array.from(MAGIC), ...chunk("IHDR", new Uint8Array(header.buffer))];
  if (icc) chunks.push(...chunk("iCCP", code("ICC\0\0"), await deflated(icc)));
  if (exif) chunks.push(...chunk("eXIf", exif));
  chunks.push(...chunk("IDAT", await deflated(rows)), ...chunk("IEND"));
  return new Blob(chunks, { type: "image/png" });
}

async function deflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function chunk(name, ...parts) {
  const ends = new DataView(new ArrayBuffer(8));
  ends.setUint32(0, parts.reduce((sum, part) => sum + part.length, 0));
  ends.setUint32(4, crc32(code(name), ...parts));
  return [ends.buffer.slice(0, 4), code(name), ...parts, ends.buffer.slice(4)];
}

/** EXIF (a TIFF structure) whose orientation, where it has one, is 1: pictures stand upright. */
export function upright(exif) {
  const copy = exif.slice();
  const view = new DataView(copy.buffer);
  try {
    const little = view.getUint16(0) === 0x4949;
    const start = view.getUint32(4, little);
    const count = view.getUint16(start, little);
    for (let i = 0, entry = start + 2; i < count; i++, entry += 12) {
      if (view.getUint16(entry, little) === 0x112) view.setUint16(entry + 8, 1, little);
    }
  } catch {
    // It ends early: no reader finds more in it than this.
  }
  return copy;
}

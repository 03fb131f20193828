// The container of .vqc files, as docs/format.md describes it: bytes to headers, sections and boxes.

/** What is wrong with a file; `kind` is the name of the error in docs/format.md. */
export class VqcError extends Error {
  constructor(kind, message) {
    super(message);
    this.name = this.kind = kind;
  }
}

export const MOST_PIXELS = 50e6; // by default: what a browser has memory for
const MOST_SIDE = 2 ** 20;
const MOST_RATE = 2 ** 21 - 1;
const MOST_CODEC = 16383;

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

/** CRC-32 of several arrays of bytes in a row. */
export function crc32(...parts) {
  let sum = -1;
  for (const part of parts) {
    for (let i = 0; i < part.length; i++) sum = CRC[(sum ^ part[i]) & 255] ^ (sum >>> 8);
  }
  return ~sum >>> 0;
}

/** Reads one field after the other; throws TruncatedError where the bytes end. */
class Cursor {
  constructor(bytes, at = 0, where = "file") {
    this.bytes = bytes;
    this.at = at;
    this.where = where;
  }

  get left() {
    return this.bytes.length - this.at;
  }

  take(count) {
    if (count > this.left) throw new VqcError("TruncatedError", `the ${this.where} ends early`);
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  byte() {
    return this.take(1)[0];
  }

  varint() {
    let value = 0;
    for (let i = 0, unit = 1; i < 5; i++, unit *= 128) {
      const byte = this.byte();
      value += (byte & 127) * unit;
      if (byte < 128) {
        if (i && !byte) throw new VqcError("FormatError", "a number is longer than it need be");
        return value;
      }
    }
    throw new VqcError("FormatError", "a number has more than 5 bytes");
  }

  within(least, most, what, kind = "FormatError") {
    const value = this.varint();
    if (value < least || value > most) throw new VqcError(kind, `${what} ${value} is impossible`);
    return value;
  }

  size() {
    return this.within(1, MOST_SIDE, "a side of", "SizeError");
  }

  checksum(payloadLength) {
    const [a, b, c = 0, d = 0] = this.take(payloadLength < 64 ? 2 : 4);
    return (a | (b << 8) | (c << 16) | (d << 24)) >>> 0;
  }
}

const ascii = (bytes) => String.fromCharCode(...bytes);
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

function boxType(bytes) {
  if (!bytes.every((byte) => byte >= 0x20 && byte <= 0x7e)) {
    throw new VqcError("FormatError", "a box has an impossible type");
  }
  return ascii(bytes);
}

function checked(stored, short, what, ...parts) {
  const sum = crc32(...parts);
  if (stored !== (short ? sum & 0xffff : sum)) {
    throw new VqcError("ChecksumError", `${what} is damaged`);
  }
}

function readHeader(cursor) {
  const { bytes } = cursor;
  if (bytes.length < 4 || ascii(bytes.subarray(0, 3)) !== "VQC") {
    throw new VqcError("NotVqcError", "this is not a .vqc file");
  }
  cursor.take(3);
  if (cursor.byte() !== 0x31) throw new VqcError("VersionError", "a later version of the format");
  const flags = cursor.byte();
  const archive = flags >> 7 === 1;
  const boxed = (flags >> 4) & 1;
  const tail = ((flags >> 6) & 1) === 1;
  if (tail && (boxed || archive)) throw new VqcError("VersionError", "a later version");
  const header = {
    archive,
    tail,
    codec: cursor.within(0, MOST_CODEC, "the codec"),
    weights: hex(cursor.take(4)),
    width: cursor.size(),
    height: cursor.size(),
    rate: cursor.within(0, MOST_RATE, "the rate"),
    grey: ((flags >> 5) & 1) === 1,
    sections: flags & 15,
    boxes: 0,
  };
  // Where the pictures of an archive have flags of their own, these bits of its header mean nothing.
  const each = archive && boxed;
  if (each) header.flagged = true;
  else if (!header.sections) header.sections = cursor.within(16, 255, "sections:");
  if (archive) header.pictures = cursor.within(1, MOST_SIDE, "pictures:");
  else if (boxed) header.boxes = cursor.within(1, 255, "boxes:");
  header.bytes = bytes.subarray(0, cursor.at);
  return header;
}

/**
 * The picture that `bytes`, a file or its beginning, holds so far.
 *
 * Gives { header, sections, boxes }; `boxes` is a Map of type to payload. While `ended` is false,
 * what is missing at the end is no error: there are fewer sections, or null without a header. Where
 * only the first `levels` sections are wanted, nothing after them is looked at.
 */
export function readPicture(bytes, ended = true, levels = 256) {
  const cursor = new Cursor(bytes);
  const found = { header: null, sections: [], boxes: new Map() };
  try {
    if (!ended && bytes.length < 4) return null;
    const header = (found.header = readHeader(cursor));
    if (header.archive) return found;
    for (let index = 0; index < header.sections; index++) {
      if (index >= levels) return found;
      const last = index === header.sections - 1;
      const tail = header.tail && last;
      if (tail && !ended) return found;
      const length = tail ? Math.max(cursor.left - 2, 0) : cursor.varint();
      if (tail && length >= 64) throw new VqcError("FormatError", "bytes follow the last section");
      const sum = cursor.checksum(length);
      const payload = cursor.take(length);
      const what = `section ${index + 1}`;
      checked(sum, length < 64, what, header.bytes, [index & 255], payload);
      found.sections.push(payload);
    }
    for (let index = 0; index < header.boxes; index++) {
      const type = cursor.take(4);
      const length = cursor.varint();
      const sum = cursor.checksum(length);
      const payload = cursor.take(length);
      checked(sum, length < 64, `box ${index + 1}`, header.bytes, type, payload);
      found.boxes.set(boxType(type), payload);
    }
  } catch (error) {
    if (ended || error.kind !== "TruncatedError") throw error;
    return found.header && found;
  }
  if (cursor.left) throw new VqcError("FormatError", "bytes follow the end");
  return found;
}

/** An archive: { header, count, picture(index) }; each picture is as readPicture gives it. */
export function readArchive(bytes) {
  const cursor = new Cursor(bytes);
  const header = readHeader(cursor);
  if (!header.archive) throw new VqcError("KindError", "this is a picture, and not an archive");
  if (header.pictures > cursor.left) throw new VqcError("TruncatedError", "the file ends early");
  const lengths = new Float64Array(header.pictures);
  for (let i = 0; i < lengths.length; i++) lengths[i] = cursor.varint();
  const start = bytes.subarray(0, cursor.at);
  checked(cursor.checksum(64), false, "the archive's list of pictures", start);
  const places = new Float64Array(lengths.length + 1);
  places[0] = cursor.at;
  for (let i = 0; i < lengths.length; i++) {
    places[i + 1] = places[i] + lengths[i] + (lengths[i] < 128 ? 2 : 4);
  }
  const end = places[lengths.length];
  if (end < bytes.length) throw new VqcError("FormatError", "bytes follow the last picture");

  function picture(index) {
    if (!(index >= 0 && index < lengths.length)) {
      throw new VqcError("UsageError", `the archive has no picture ${index + 1}`);
    }
    const [at, short] = [new Cursor(bytes, places[index]), lengths[index] < 128];
    const sum = at.checksum(short ? 0 : 64);
    const content = at.take(lengths[index]);
    const number = new Uint8Array(new Uint32Array([index]).buffer);
    checked(sum, short, `picture ${index + 1}`, start, number, content);
    return readContent(content, header);
  }
  return { header, count: lengths.length, picture };
}

/** A picture of an archive, of whose header `shared` is. */
function readContent(content, shared) {
  const cursor = new Cursor(content, 0, "picture");
  const header = { ...shared, archive: false, bytes: null };
  let boxed = false;
  if (shared.flagged) {
    const flags = cursor.byte();
    boxed = ((flags >> 4) & 1) === 1;
    header.grey = ((flags >> 5) & 1) === 1;
    if (flags & 64) {
      header.width = cursor.size();
      header.height = cursor.size();
    }
    if (flags & 128) header.rate = cursor.within(0, MOST_RATE, "the rate");
    header.sections = flags & 15 || cursor.within(16, 255, "sections:");
  }
  const lengths = [];
  while (lengths.length < header.sections - (boxed ? 0 : 1)) lengths.push(cursor.varint());
  const sections = lengths.map((length) => cursor.take(length));
  const boxes = new Map();
  if (!boxed) sections.push(cursor.take(cursor.left));
  else {
    let count = 0;
    do {
      if (++count > 255) throw new VqcError("FormatError", "there are more than 255 boxes");
      const type = cursor.take(4);
      const payload = cursor.take(cursor.varint());
      boxes.set(boxType(type), payload);
    } while (cursor.left);
  }
  return { header, sections, boxes };
}

// The codes of the ladder system (photo-2, photo-3): docs/format.md, "Sections of the ladder system".
//
// All of it is exact. Numbers that the format gives in units of 2^-10 are integers here; sums of
// products with weights, in units of 2^-22, stay below 2^53.

import { VqcError } from "./container.js";
import { Layer, clipped, rounded } from "./exact.js";
import { RangeDecoder, cumulative } from "./rangecoder.js";

const UNIT = 1024; // of activations, means and latents
const HYPER = 48; // channels of the hyper grid
const FINEST = 2560; // the rate of 10bit
const CLASSES = 64;

/** The square root of n, rounded down; `start` is not below it. */
function isqrt(n, start) {
  for (let x = start; ; ) {
    const next = (x + n / x) >> 1n;
    if (next >= x) return x;
    x = next;
  }
}

/** A number that is a little above 2^exponent. */
function above(exponent) {
  const whole = Math.floor(exponent);
  const head = BigInt(Math.ceil(2 ** (exponent - whole + 40))) + 1n;
  return whole < 40 ? (head >> BigInt(40 - whole)) + 1n : head << BigInt(whole - 40);
}

const powers = new Map();

/** floor(2^(rate / 256) * 2^32), the P of the format. */
function power(rate) {
  if (!powers.has(rate)) {
    let p = 1n << BigInt(rate + 8192);
    for (let i = 1; i <= 8; i++) p = isqrt(p, above((rate + 8192) / 2 ** i));
    powers.set(rate, p);
  }
  return powers.get(rate);
}

/** What a rate means for a model; `rate` is the header's. */
export class Point {
  constructor(model, rate) {
    const { tuned, weighted, channels } = model;
    const eye = Math.floor(rate / 4096);
    const r = rate % 4096;
    if (r < 1280 || r > FINEST || eye > (tuned ? 1 : 0)) {
      throw new VqcError("FormatError", `the codec has no rate ${rate}`);
    }
    this.rate = r;
    this.tune = !tuned ? null : eye ? "visual" : "psnr";
    this.band = Math.floor((r + 128) / 256) - 5 + 6 * eye;
    const t = (r / 256 - 7.5) / 2;
    const v = eye;
    this.features = tuned ? [t, t * t, t ** 3, v, v * t, v * t * t] : [t, t * t, t ** 3];
    const widest = weighted ? Math.min(r + 128, FINEST) : r;
    this.codewords = Number((power(widest) + (1n << 31n)) >> 32n);
    this.half = Math.floor(this.codewords / 2);
    this.finer = new Int32Array(channels); // log2 of the channel's step over the point's, in 1/256
    if (weighted) {
      const weights = model.tensor("step_weights.weight");
      const terms = 1 + this.features.length;
      const least = -8 * Math.floor((FINEST - r) / 8);
      for (let c = 0; c < channels; c++) {
        let s = weights[terms * c];
        this.features.forEach((feature, i) => (s += weights[terms * c + 1 + i] * feature));
        s = Math.min(Math.max(s / 4096, -0.5), 4);
        this.finer[c] = Math.max(8 * Math.floor(32 * s + 0.5), least);
      }
    }
    // What the latent and the networks' numbers are multiplied by, in units of 2^-16
    this.meanScale = new Float64Array(channels);
    this.valueScale = new Float64Array(channels);
    this.steps = new Float64Array(channels);
    const units = model.tensor("units");
    for (let c = 0; c < channels; c++) {
      const p = power(r - this.finer[c]);
      const [u, unit] = [BigInt(units[c]), BigInt(units[channels + c])];
      this.meanScale[c] = Number((unit * p) / (10240n << 24n));
      this.valueScale[c] = Number((10240n << 56n) / (u * p));
      this.steps[c] = (10240 / 2 ** (r / 256)) * 2 ** (this.finer[c] / 256);
    }
  }

  /** How many slices of the model's have a section. */
  coded(model) {
    return model.slices.filter((slice) => this.rate >= slice.from).length;
  }
}

/** The weights of a ladder codec, as `vqcodec export --web` writes them. */
export class LadderModel {
  /** `tensor(name)` gives a typed array or null, `shape(name)` its shape, `info` has the slices. */
  constructor({ tensor, shape }, info) {
    this.tensor = tensor;
    this.shape = shape;
    this.slices = [];
    let start = 0;
    info.slices.forEach((size, i) => {
      const groups = info.checkerboard[i] ? 2 : 1;
      this.slices.push({ start, end: start + size, groups, from: 256 * info.coded_from[i] });
      start += size;
    });
    this.channels = start;
    this.tuned = info.tuned;
    this.weighted = info.weighted;
    this.layers = new Map();
    this.points = new Map();
    this.tables = new Map();
  }

  layer(name) {
    if (!this.layers.has(name)) {
      const weight = this.tensor(`${name}.weight`);
      const bias = this.tensor(`${name}.bias`);
      const channels = this.shape(`${name}.weight`)?.[1];
      this.layers.set(name, weight && new Layer(weight, bias, channels));
    }
    return this.layers.get(name);
  }

  point(rate) {
    if (!this.points.has(rate)) this.points.set(rate, new Point(this, rate));
    return this.points.get(rate);
  }

  /** The cumulative table of a class, for a codebook of so many words. */
  classTable(kind, codewords) {
    const key = kind * 2048 + codewords;
    if (!this.tables.has(key)) {
      const all = this.tensor("class_tables").subarray(kind * 1024, (kind + 1) * 1024);
      const first = 512 - Math.floor(codewords / 2);
      const table = all.slice(first, first + codewords);
      let outside = 2 ** 24;
      for (const part of table) outside -= part;
      table[Math.floor(codewords / 2)] += outside;
      this.tables.set(key, cumulative(table));
    }
    return this.tables.get(key);
  }
}

/** FiLM's scales and shifts, in units of 2^-12. */
function film(model, name, point) {
  const weights = model.tensor(`${name}.film.linear.weight`);
  const terms = point.features.length;
  const values = new Float64Array(weights.length / terms);
  for (let row = 0; row < values.length; row++) {
    let sum = 0;
    point.features.forEach((feature, i) => (sum += weights[row * terms + i] * feature));
    values[row] = Math.floor(sum + 0.5);
  }
  return values;
}

function applyFilm(x, values) {
  const n = values.length / 2;
  for (let i = 0; i < x.length; i += n) {
    for (let c = 0; c < n; c++) {
      x[i + c] = rounded(x[i + c] * (4096 + values[c]) + values[n + c] * UNIT);
    }
  }
  return x;
}

/** A of the format: x where it is positive, else an eighth, rounded. */
function activate(x) {
  for (let i = 0; i < x.length; i++) if (x[i] < 0) x[i] = (x[i] + 4) >> 3;
  return x;
}

/** Channel 4c + 2i + j of row y, column x to channel c of row 2y + i, column 2x + j. */
function shuffle(x, height, width) {
  const channels = x.length / (height * width) / 4;
  const out = new Int32Array(x.length);
  let from = 0;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      for (let c = 0; c < channels; c++) {
        for (let k = 0; k < 4; k++) {
          const at = (2 * row + (k >> 1)) * 2 * width + 2 * column + (k & 1);
          out[at * channels + c] = x[from++];
        }
      }
    }
  }
  return out;
}

/** Arrays of `cells` cells each, side by side: `count` cells from `first` on. */
function joined(parts, first, count, cells) {
  const widths = parts.map((part) => part.length / cells);
  const total = widths.reduce((sum, width) => sum + width, 0);
  const out = new Int32Array(count * total);
  let start = 0;
  parts.forEach((part, i) => {
    const width = widths[i];
    for (let cell = 0, from = first * width; cell < count; cell++) {
      for (let c = 0, at = cell * total + start; c < width; c++) out[at++] = part[from++];
    }
    start += width;
  });
  return out;
}

/** The latent of one picture, section by section. */
export class LadderDecoder {
  static band = 8192; // cells that the networks see at once, at least a row

  constructor(model, header) {
    this.model = model;
    this.point = model.point(header.rate);
    this.height = Math.ceil(header.height / 16);
    this.width = Math.ceil(header.width / 16);
    this.cells = this.height * this.width;
    this.coded = this.point.coded(model);
    if (header.sections !== this.coded + 1) {
      throw new VqcError("FormatError", `${header.sections} sections do not fit the rate`);
    }
    this.contexts = []; // of the slices that are decoded
    this.sections = 0; // that were added
    this.latent = null; // (cells, channels), once there is a section
  }

  /** The next section. */
  add(payload) {
    this.sections++;
    if (!this.latent) {
      const hyper = this.#hyper(payload);
      this.latent = new Int32Array(this.cells * this.model.channels);
      this.features = this.#features(hyper);
    } else {
      this.contexts.push(this.#slice(this.contexts.length, payload, this.contexts));
    }
  }

  /** The latent in units of 2^-10 steps: (cells, channels), what has no section yet by its mean. */
  finish() {
    const contexts = [...this.contexts];
    while (contexts.length < this.coded) {
      contexts.push(this.#slice(contexts.length, null, contexts));
    }
    return this.latent;
  }

  /**
   * The picture of the first slice alone, by the linear part of the synthesis: a coarse look at what
   * comes, in a fraction of the time. RGBA of the header's width and height.
   */
  draft({ width, height, grey }) {
    const { latent, point, model } = this;
    const slice = model.slices[0];
    if (!this.contexts.length) this.#slice(0, null, []);
    const linear = model.tensor("linear"); // of the channels of the first slice
    const data = new Uint8ClampedArray(4 * width * height).fill(255);
    const pixels = new Float32Array(768);
    for (let cell = 0; cell < this.cells; cell++) {
      pixels.fill(127.5);
      for (let c = slice.start; c < slice.end; c++) {
        const y = (latent[cell * model.channels + c] / UNIT) * point.steps[c];
        if (y) for (let k = 0; k < 768; k++) pixels[k] += y * linear[c * 768 + k];
      }
      const [top, left] = [16 * Math.floor(cell / this.width), 16 * (cell % this.width)];
      const [rows, columns] = [Math.min(16, height - top), Math.min(16, width - left)];
      for (let row = 0; row < rows; row++) {
        for (let column = 0, at = 4 * ((top + row) * width + left); column < columns; column++, at += 4) {
          for (let k = 0; k < 3; k++) data[at + k] = pixels[256 * k + 16 * row + column];
          if (grey) data.fill((data[at] + data[at + 1] + data[at + 2] + 1) / 3, at, at + 3);
        }
      }
    }
    return data;
  }

  #hyper(payload) {
    const rows = Math.ceil(this.height / 4);
    const columns = Math.ceil(this.width / 4);
    const cells = rows * columns;
    const size = 64;
    const all = this.model.tensor("hyper_tables");
    const tables = [];
    let bits = 0;
    for (let c = 0; c < HYPER; c++) {
      const start = (this.point.band * HYPER + c) * size;
      const table = all.subarray(start, start + size);
      bits += 24 - Math.log2(table.reduce((a, b) => Math.max(a, b)));
      tables.push(cumulative(table));
    }
    if (payload.length < Math.floor((cells * Math.floor(16 * bits)) / 128) - 8) {
      throw new VqcError("SizeError", "the file is too short for a picture of its size");
    }
    const decoder = new RangeDecoder(payload);
    const z = new Int32Array(cells * HYPER);
    for (let c = 0; c < HYPER; c++) {
      for (let cell = 0; cell < cells; cell++) {
        z[cell * HYPER + c] = ((decoder.symbol(tables[c]) - 32) * UNIT) / 4;
      }
    }
    return { z, rows, columns };
  }

  #features({ z, rows, columns }) {
    const { model } = this;
    const values = film(model, "hyper_synthesis", this.point);
    const at = (name) => model.layer(`hyper_synthesis.${name}`);
    let x = activate(applyFilm(at("conv64").apply(z, rows, columns), values));
    x = activate(shuffle(at("up64").apply(x, rows, columns), rows, columns));
    x = activate(at("conv32").apply(x, 2 * rows, 2 * columns));
    x = activate(shuffle(at("up32").apply(x, 2 * rows, 2 * columns), 2 * rows, 2 * columns));
    const channels = x.length / (16 * rows * columns);
    const cut = new Int32Array(this.cells * channels);
    for (let row = 0; row < this.height; row++) {
      const from = row * 4 * columns * channels;
      cut.set(x.subarray(from, from + this.width * channels), row * this.width * channels);
    }
    return cut;
  }

  /** Decodes slice `index` (or takes its codes as zero, without a payload); gives its context. */
  #slice(index, payload, contexts) {
    const slice = this.model.slices[index];
    const decoder = payload && new RangeDecoder(payload);
    const { height, width, latent, model } = this;
    const { channels } = model;
    const inputs = [this.features, ...contexts];
    const groups = [[], []];
    for (let cell = 0; cell < this.cells; cell++) {
      const odd = (Math.floor(cell / width) + (cell % width)) & 1;
      groups[slice.groups === 1 ? 0 : odd].push(cell);
    }
    for (const cell of groups[1]) latent.fill(0, cell * channels + slice.start, cell * channels + slice.end);
    groups.slice(0, slice.groups).forEach((group, i) => {
      if (!group.length) return;
      const known = i ? [...inputs, this.#context(index, slice)] : inputs;
      const name = `${i ? "other" : "anchor"}_nets.${index}`;
      const out = this.#network(name, known, Int32Array.from(group));
      this.#group(slice, group, out, decoder);
    });
    return this.#context(index, slice);
  }

  /** What a network says of the cells of a group, band by band: (cells, outputs). */
  #network(name, parts, group) {
    const { model, height, width } = this;
    const [narrow, conv, mix, out] = ["narrow", "conv", "mix", "out"].map((layer) =>
      model.layer(`${name}.${layer}`),
    );
    const values = film(model, name, this.point);
    const result = new Int32Array(group.length * out.outs);
    const rows = Math.max(1, Math.floor(LadderDecoder.band / width));
    for (let top = 0, done = 0; top < height; top += rows) {
      const from = Math.max(0, top - 1); // 3x3 cells see one more row on each side
      const to = Math.min(height, top + rows + 1);
      let end = done;
      while (end < group.length && group[end] < (top + rows) * width) end++;
      const cells = group.subarray(done, end).map((cell) => cell - from * width);
      const size = (to - from) * width;
      let x = joined(parts, from * width, size, this.cells);
      if (narrow) x = activate(narrow.apply(x, to - from, width));
      x = activate(applyFilm(conv.apply(x, to - from, width, cells), values));
      x = activate(mix.apply(x, 1, cells.length));
      result.set(out.apply(x, 1, cells.length), done * out.outs);
      done = end;
    }
    return result;
  }

  /** Writes the latent of a group of cells: `out` has a mean and a log scale for each code. */
  #group(slice, group, out, decoder) {
    const { point, model, latent } = this;
    const n = slice.end - slice.start;
    const spreads = model.tensor("units").subarray(2 * model.channels);
    const count = group.length * n;
    const kinds = new Uint8Array(count);
    const totals = new Int32Array(CLASSES + 1);
    for (let cell = 0; cell < group.length; cell++) {
      for (let c = 0; c < n; c++) {
        const channel = slice.start + c;
        const m = out[cell * 2 * n + c];
        const mean = clipped(Math.floor((m * point.meanScale[channel]) / 65536 + 0.5));
        latent[group[cell] * model.channels + channel] = mean;
        const l = out[cell * 2 * n + n + c];
        const spread = l + spreads[channel] - 13642 + 4 * (point.rate - point.finer[channel]) + 4608;
        const kind = Math.min(Math.max(Math.floor(spread / 192), 0), CLASSES - 1);
        kinds[cell * n + c] = kind;
        totals[kind + 1]++;
      }
    }
    if (decoder) {
      // Codes of one class after the other, those of a class in the order of the cells
      for (let kind = 0; kind < CLASSES; kind++) totals[kind + 1] += totals[kind];
      const order = new Int32Array(count);
      const next = totals.slice();
      for (let i = 0; i < count; i++) order[next[kinds[i]]++] = i;
      for (let kind = 1; kind < CLASSES; kind++) {
        if (totals[kind] === totals[kind + 1]) continue;
        const table = model.classTable(kind, point.codewords);
        for (let i = totals[kind]; i < totals[kind + 1]; i++) {
          const cell = Math.floor(order[i] / n);
          const channel = slice.start + (order[i] % n);
          latent[group[cell] * model.channels + channel] +=
            (decoder.symbol(table) - point.half) * UNIT;
        }
      }
    }
    if (!decoder || !model.weighted) return;
    const [size, half] = [point.codewords * UNIT, point.half * UNIT];
    for (const cell of group) {
      const start = cell * model.channels;
      for (let i = start + slice.start; i < start + slice.end; i++) {
        latent[i] -= size * Math.floor((latent[i] + half) / size);
      }
    }
  }

  /** The context of a slice: for each cell its values, then its magnitudes. */
  #context(index, slice) {
    const { latent, point, model } = this;
    const n = slice.end - slice.start;
    const out = new Int32Array(this.cells * 2 * n);
    for (let cell = 0; cell < this.cells; cell++) {
      for (let c = 0; c < n; c++) {
        const y = latent[cell * model.channels + slice.start + c];
        const x = 256 + Math.abs(y);
        const e = 31 - Math.clz32(x) - 8;
        const magnitude = clipped(Math.floor(256 * (e - 1) + x / 2 ** e + 0.5));
        const scale = point.valueScale[slice.start + c];
        const value = index ? magnitude * Math.sign(y) : clipped(Math.floor((y * scale) / 65536 + 0.5));
        out[cell * 2 * n + c] = value;
        out[cell * 2 * n + n + c] = magnitude;
      }
    }
    return out;
  }
}

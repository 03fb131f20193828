// From the latent to pixels: docs/format.md, "Pixels", by the network that onnxruntime runs: with
// WebAssembly, and large pictures with WebGPU where that proves itself.

const HALO = 4; // cells: as far as the network's convolutions reach
// More takes longer than it saves
const OPTIONS = { graphOptimizationLevel: "basic" };
const GPU = { ...OPTIONS, executionProviders: ["webgpu"], logSeverityLevel: 3 };
const TRIAL = { width: 128, height: 128 };

export class Synthesis {
  static strip = 16384; // cells that are made at once, at least a row: 4 million pixels
  static large = 4096; // cells: what is smaller is made before a GPU has started
  static slowest = 1; // of the time that WebAssembly takes, for a GPU that is worth its while

  constructor(ort, session, bytes) {
    Object.assign(this, { ort, session, bytes });
    this.gpu = null; // a promise of WebGPU's session, or of null where it is no use
    this.last = Promise.resolve();
  }

  /** `point` is of any rate: a small picture is made at once, as the first takes more time. */
  static async open(ort, bytes, point) {
    const made = new Synthesis(ort, await ort.InferenceSession.create(bytes, OPTIONS), bytes);
    await made.pixels(new Int32Array(64 * point.steps.length), point, TRIAL);
    return made;
  }

  /**
   * The pixels of a latent (cells, channels) in units of 2^-10 steps, as RGBA of width x height:
   * { data, gpu }, of which `gpu` says whether WebGPU made them.
   *
   * Tall pictures are made in strips, each with the rows around it that it depends on. `onShare` is
   * told the share that is done after each.
   */
  async pixels(latent, point, { width, height, grey = false }, onShare = null) {
    const columns = Math.ceil(width / 16);
    const rows = Math.ceil(height / 16);
    const channels = latent.length / (rows * columns);
    const data = new Uint8ClampedArray(4 * width * height);
    const strip = Math.max(1, Math.floor(Synthesis.strip / columns));
    if (rows * columns >= Synthesis.large) this.gpu ??= this.#proven(point);
    let gpu = rows * columns >= Synthesis.large ? await this.gpu : null;
    for (let top = 0; top < rows; top += strip) {
      const from = Math.max(0, top - HALO);
      const to = Math.min(rows, top + strip + HALO);
      const part = latent.subarray(from * columns * channels, to * columns * channels);
      let planes = gpu && (await this.#run(gpu, part, point, columns).catch(() => null));
      if (gpu && (!planes || planes.every((value) => value === planes[0]))) {
        // It has failed, perhaps without a word, for want of memory or as it was taken away
        this.gpu = Promise.resolve((gpu = null));
      }
      if (!gpu) planes = await this.#run(this.session, part, point, columns);
      const end = Math.min(height, 16 * (top + strip));
      for (let y = 16 * top; y < end; y++) {
        copyRow(planes, data, y - 16 * from, y, width, 16 * columns, 16 * (to - from), grey);
      }
      onShare?.(end / height);
    }
    return { data, gpu: gpu !== null };
  }

  /** Planes of red, green and blue. One run after the other: a GPU's waits, and others go on meanwhile. */
  #run(session, latent, point, columns) {
    const tensor = (values, shape) => new this.ort.Tensor("float32", Float32Array.from(values), shape);
    const channels = point.steps.length;
    const made = this.last.then(async () => {
      const cells = new Float32Array(latent.length);
      for (let i = 0; i < latent.length; i++) cells[i] = latent[i] / 1024;
      const { pixels } = await session.run({
        latent: new this.ort.Tensor("float32", cells, [latent.length / channels / columns, columns, channels]),
        steps: tensor(point.steps, [channels]),
        condition: tensor(point.features, [point.features.length]),
      });
      return pixels.data;
    });
    this.last = made.catch(() => {});
    return made;
  }

  /** WebGPU's session where it makes what WebAssembly makes, to a step, in less time; or null. */
  async #proven(point) {
    const columns = TRIAL.width / 16;
    const latent = Int32Array.from({ length: columns ** 2 * point.steps.length }, (_, i) => ((i * 7919) % 4001) - 2000);
    const timed = async (session) => {
      const start = performance.now();
      const planes = await this.#run(session, latent, point, columns);
      return [planes, performance.now() - start];
    };
    try {
      const session = await this.ort.InferenceSession.create(this.bytes, GPU);
      const [expected, usual] = await timed(this.session);
      await timed(session); // compiles
      const [found, time] = await timed(session);
      const same = found.every((value, i) => Math.abs(value - expected[i]) <= 1);
      if (same && time < Synthesis.slowest * usual) return session;
      await session.release();
    } catch {
      // There is none, or not for such a network
    }
    return null;
  }
}

/** Row `from` of the planes red, green, blue to row `to` of RGBA. */
function copyRow(planes, data, from, to, width, stride, height, grey) {
  const [red, green] = [from * stride, (height + from) * stride];
  const blue = (2 * height + from) * stride;
  for (let x = 0, at = 4 * to * width; x < width; x++, at += 4) {
    let [r, g, b] = [planes[red + x], planes[green + x], planes[blue + x]];
    if (grey) r = g = b = Math.floor((r + g + b + 1) / 3);
    data[at] = r;
    data[at + 1] = g;
    data[at + 2] = b;
    data[at + 3] = 255;
  }
}

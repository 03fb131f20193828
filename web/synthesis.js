// From the latent to pixels: docs/format.md, "Pixels", by the network that onnxruntime runs.

const HALO = 4; // cells: as far as the network's convolutions reach
// More takes longer than it saves
const OPTIONS = { graphOptimizationLevel: "basic" };

export class Synthesis {
  static strip = 16384; // cells that are made at once, at least a row: 4 million pixels

  constructor(ort, session) {
    this.ort = ort;
    this.session = session;
  }

  /** `point` is of any rate: a small picture is made at once, as the first takes more time. */
  static async open(ort, bytes, point) {
    const made = new Synthesis(ort, await ort.InferenceSession.create(bytes, OPTIONS));
    await made.pixels(new Int32Array(64 * point.steps.length), point, { width: 128, height: 128 });
    return made;
  }

  /**
   * The pixels of a latent (cells, channels) in units of 2^-10 steps, as RGBA of width x height.
   *
   * Tall pictures are made in strips, each with the rows around it that it depends on.
   */
  async pixels(latent, point, { width, height, grey = false }) {
    const columns = Math.ceil(width / 16);
    const rows = Math.ceil(height / 16);
    const channels = latent.length / (rows * columns);
    const data = new Uint8ClampedArray(4 * width * height);
    const strip = Math.max(1, Math.floor(Synthesis.strip / columns));
    const tensor = (values, shape) => new this.ort.Tensor("float32", Float32Array.from(values), shape);
    const steps = tensor(point.steps, [channels]);
    const condition = tensor(point.features, [point.features.length]);
    for (let top = 0; top < rows; top += strip) {
      const from = Math.max(0, top - HALO);
      const to = Math.min(rows, top + strip + HALO);
      const part = latent.subarray(from * columns * channels, to * columns * channels);
      const input = new Float32Array(part.length);
      for (let i = 0; i < part.length; i++) input[i] = part[i] / 1024;
      const cells = new this.ort.Tensor("float32", input, [to - from, columns, channels]);
      const { pixels } = await this.session.run({ latent: cells, steps, condition });
      const end = Math.min(height, 16 * (top + strip));
      for (let y = 16 * top; y < end; y++) {
        copyRow(pixels.data, data, y - 16 * from, y, width, 16 * columns, 16 * (to - from), grey);
      }
      pixels.dispose();
    }
    return data;
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

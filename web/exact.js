// Convolutions in exact integers: activations in units of 2^-10, weights in units of 2^-12.
//
// kernel.wasm computes them where it is loaded (`useKernel`), else float64, to the same numbers.

const MOST = 1024 * 1024; // 1024, in units of 2^-10

/** R of the format, of a sum in units of 2^-22. */
export function rounded(sum) {
  const x = Math.floor(sum / 4096 + 0.5);
  return x > MOST ? MOST : x < -MOST ? -MOST : x;
}

export function clipped(x) {
  return x > MOST ? MOST : x < -MOST ? -MOST : x;
}

let kernel = null;

/** Compiles the bytes of kernel.wasm; null goes back to float64. */
export async function useKernel(bytes) {
  kernel = bytes && (await WebAssembly.instantiate(bytes)).instance.exports;
}

/** A convolution of 1x1 or 3x3 with `weight` (out, in, row, column) and `bias`, both int16. */
export class Layer {
  constructor(weight, bias, channels) {
    this.channels = channels;
    this.outs = bias.length;
    this.taps = weight.length / bias.length / channels;
    this.biases = Int32Array.from(bias, (b) => Math.floor(b / 4 + 0.5));
    this.window = this.taps * channels;
    const sums = new Float64Array(this.outs);
    this.weights = new Int16Array(weight.length); // (out, row, column, in)
    for (let o = 0; o < this.outs; o++) {
      for (let c = 0; c < channels; c++) {
        for (let tap = 0; tap < this.taps; tap++) {
          const value = weight[(o * channels + c) * this.taps + tap];
          this.weights[o * this.window + tap * channels + c] = value;
          sums[o] += Math.abs(value);
        }
      }
    }
    // Sums of products with 11 bits of an activation, and those of their four lanes, have 32 bits
    this.small = sums.every((sum) => sum * 1024 < 2 ** 31);
    this.small &&= channels % 8 === 0 && this.outs % 2 === 0;
    this.floats = null;
  }

  /**
   * `x` is (height * width, in), int32. Gives (cells, out), of all cells or of those in `group`.
   */
  apply(x, height, width, group = null) {
    const side = this.taps === 9 ? 1 : 0;
    const count = group ? group.length : height * width;
    // Where each cell's window begins in a grid with `side` cells of zeros around it
    const places = new Int32Array(count + (count & 1));
    const columns = width + 2 * side;
    for (let i = 0; i < count; i++) {
      const cell = group ? group[i] : i;
      places[i] = (Math.floor(cell / width) * columns + (cell % width)) * this.channels;
    }
    if (count & 1) places[count] = places[count - 1];
    const how = { x, height, width, side, places, count, stride: columns * this.channels };
    return kernel && this.small ? this.#integers(how) : this.#floats(how);
  }

  #integers({ x, height, width, side, places, count, stride }) {
    const { channels, outs } = this;
    const cells = (height + 2 * side) * (width + 2 * side);
    // Places in the kernel's memory, in bytes
    const weights = 4 * cells * channels;
    const biases = weights + 2 * this.weights.length;
    const starts = biases + 4 * outs;
    const result = starts + 4 * places.length;
    const missing = result + 4 * places.length * outs - kernel.memory.buffer.byteLength;
    if (missing > 0) kernel.memory.grow(Math.ceil(missing / 65536));
    const { buffer } = kernel.memory;
    const grid = new Int16Array(buffer, 0, 2 * cells * channels);
    if (side) grid.fill(0);
    for (let row = 0, from = 0; row < height; row++) {
      let at = 2 * ((row + side) * (width + 2 * side) + side) * channels;
      for (let block = 0; block < (width * channels) / 8; block++, at += 8) {
        for (let i = 0; i < 8; i++, at++, from++) {
          const high = (x[from] + 512) >> 10;
          grid[at] = high;
          grid[at + 8] = x[from] - (high << 10);
        }
      }
    }
    new Int16Array(buffer, weights, this.weights.length).set(this.weights);
    new Int32Array(buffer, biases, outs).set(this.biases);
    const addresses = new Int32Array(buffer, starts, places.length);
    for (let i = 0; i < places.length; i++) addresses[i] = 4 * places[i];
    const [runs, run] = [2 * side + 1, 4 * (2 * side + 1) * channels];
    const sizes = [outs, runs, run, 4 * stride, result];
    if (count) kernel.convolve(starts, places.length, weights, biases, ...sizes);
    return new Int32Array(buffer, result, count * outs).slice();
  }

  #floats({ x, height, width, side, places, count, stride }) {
    const { channels, outs, window } = this;
    const grid = new Float64Array((height + 2 * side) * stride);
    for (let row = 0; row < height; row++) {
      const cells = x.subarray(row * width * channels, (row + 1) * width * channels);
      grid.set(cells, (row + side) * stride + side * channels);
    }
    this.floats ??= Float64Array.from(this.weights);
    const weights = this.floats;
    const [runs, run] = [2 * side + 1, (2 * side + 1) * channels];
    const result = new Int32Array(count * outs);
    for (let i = 0; i < count; i++) {
      for (let o = 0; o < outs; o++) {
        let sum = this.biases[o] * 4096;
        let w = o * window;
        for (let r = 0; r < runs; r++) {
          const from = places[i] + r * stride;
          for (let k = from; k < from + run; k++) sum += grid[k] * weights[w++];
        }
        result[i * outs + o] = rounded(sum);
      }
    }
    return result;
  }
}

// Decodes payloads of the range coder: docs/format.md, "Payloads of the range coder".

import { VqcError } from "./container.js";

const TOTAL = 2 ** 24;
const WORD = 2 ** 32;

/** The sums cdf[0] .. cdf[K] of a table of integers that add up to 2^24. */
export function cumulative(table) {
  const cdf = new Int32Array(table.length + 1);
  for (let k = 0; k < table.length; k++) cdf[k + 1] = cdf[k] + table[k];
  if (cdf[table.length] !== TOTAL) throw new Error("a table does not add up to 2^24");
  return cdf;
}

/**
 * One payload. Of the format's `lower` and `point` only their difference matters: it is kept, like
 * `range`, as two halves of 32 bits, which float64 holds exactly.
 */
export class RangeDecoder {
  constructor(payload) {
    this.payload = payload;
    this.at = 0;
    this.rangeHigh = WORD - 1;
    this.rangeLow = WORD - 1;
    this.high = this.#word();
    this.low = this.#word();
  }

  #word() {
    let word = 0;
    for (let end = this.at + 4; this.at < end; this.at++) {
      word = word * 256 + (this.at < this.payload.length ? this.payload[this.at] : 0);
    }
    return word;
  }

  /** The next symbol, by its cumulative table. */
  symbol(cdf) {
    const scale = this.rangeHigh * 256 + Math.floor(this.rangeLow / TOTAL); // 40 bits
    const upper = Math.floor(scale / 65536);
    const lower = scale % 65536;
    // The quotient rounds, and may be 1 too high or too low where a symbol begins: then k is, too.
    const quotient = Math.floor((this.high * WORD + this.low) / scale);
    let k = 0;
    for (let end = cdf.length - 1; end - k > 1; ) {
      const middle = (k + end) >> 1;
      if (cdf[middle] <= quotient) k = middle;
      else end = middle;
    }
    for (;;) {
      const below = this.#less(upper, lower, cdf[k]);
      if (below) k--;
      else if (this.#less(upper, lower, cdf[k + 1])) break;
      else if (++k === cdf.length - 1) throw new VqcError("FormatError", "a payload is damaged");
    }
    this.#subtract(upper, lower, cdf[k]);
    const size = cdf[k + 1] - cdf[k];
    const product = upper * size;
    const rest = (product % 65536) * 65536 + lower * size;
    this.rangeHigh = Math.floor(product / 65536) + Math.floor(rest / WORD);
    this.rangeLow = rest % WORD;
    if (this.rangeHigh === 0) {
      this.rangeHigh = this.rangeLow;
      this.rangeLow = 0;
      this.high = this.low;
      this.low = this.#word();
    }
    return k;
  }

  /** Whether the difference is less than (upper * 2^16 + lower) * factor. */
  #less(upper, lower, factor) {
    const product = upper * factor;
    const rest = (product % 65536) * 65536 + lower * factor;
    const high = Math.floor(product / 65536) + Math.floor(rest / WORD);
    return this.high < high || (this.high === high && this.low < rest % WORD);
  }

  #subtract(upper, lower, factor) {
    const product = upper * factor;
    const rest = (product % 65536) * 65536 + lower * factor;
    this.high -= Math.floor(product / 65536) + Math.floor(rest / WORD);
    this.low -= rest % WORD;
    if (this.low < 0) {
      this.low += WORD;
      this.high -= 1;
    }
  }
}

// Reads a file of tensors: 8 bytes, the length of a JSON header; the header; the numbers.

const TYPES = { I16: Int16Array, I32: Int32Array, F32: Float32Array };

/** `tensor(name)` gives a typed array, or null, `shape(name)` its shape; `metadata` is what else the header says. */
export function readTensors(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = 8 + Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  const found = new Map();
  function tensor(name) {
    if (!(name in header)) return null;
    if (!found.has(name)) {
      const { dtype, data_offsets: [from, to] } = header[name];
      const copy = new Uint8Array(bytes.subarray(start + from, start + to)); // aligned
      found.set(name, new TYPES[dtype](copy.buffer));
    }
    return found.get(name);
  }
  const shape = (name) => header[name]?.shape;
  return { tensor, shape, metadata: header.__metadata__ ?? {} };
}

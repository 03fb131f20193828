// The hash of a file's codes, as tests/golden/make.py has it.

import { LadderDecoder } from "./ladder.js";
import { readArchive, readPicture } from "./vqcodec.js";

/** SHA-256 of the latent in steps, float32, of the channels that the rate codes. */
export async function codesHash(models, bytes, index = 1) {
  let found = readPicture(bytes);
  if (found.header.archive) found = readArchive(bytes).picture(index - 1);
  const codec = await models.get(found.header);
  const decoder = new LadderDecoder(codec.prior, found.header);
  for (const section of found.sections) decoder.add(section);
  const latent = decoder.finish();
  const { channels, slices } = codec.prior;
  const coded = slices[decoder.coded - 1].end;
  const values = new Float32Array(decoder.cells * coded);
  for (let i = 0; i < values.length; i++) {
    values[i] = latent[Math.floor(i / coded) * channels + (i % coded)] / 1024;
  }
  const hash = await crypto.subtle.digest("SHA-256", values);
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

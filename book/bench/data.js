// The digits that the course trains on (1,437 images of 8×8), as bncourse.data gives them: pixels from 0 to 1, less the mean of
// each. The file is made by book/_ext/benches.py: a byte a pixel, 0 to 16, then a byte a label; gzipped.

const PIXELS = 64;
const CLASSES = 10;

export async function digits(address = new URL("digits.bin", import.meta.url)) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`the digits did not come (${answer.status})`);
  const file = new Uint8Array(await answer.arrayBuffer());
  return unpacked(file[0] === 0x1f && file[1] === 0x8b ? await inflated(file) : file); // a server may have inflated it already
}

async function inflated(file) {
  const stream = new Blob([file]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export function unpacked(bytes) {
  const count = bytes.length / (PIXELS + 1);
  const x = Float64Array.from(bytes.subarray(0, count * PIXELS), (level) => level / 16);
  for (let pixel = 0; pixel < PIXELS; pixel++) {
    let mean = 0;
    for (let i = pixel; i < x.length; i += PIXELS) mean += x[i] / count;
    // In single precision, as the package does: networks at the edge of stability would make much of the difference.
    for (let i = pixel; i < x.length; i += PIXELS) x[i] = Math.fround(x[i] - Math.fround(mean));
  }
  return { x, y: bytes.slice(count * PIXELS), features: PIXELS, classes: CLASSES };
}

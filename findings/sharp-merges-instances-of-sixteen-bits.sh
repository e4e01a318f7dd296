#!/usr/bin/env bash
# sharp 0.35.5 (npm, libvips): a grey PNG of 16 bits, as instances of Cityscapes (class * 1000 + number), panoptic ids and depths are written,
# goes through every step as 8 bits, and what is left is the upper half of each number: cars 26001 and 26002 are both 101, 7 is 0. Turning,
# cutting and resizing with `kernel: "nearest"` write such a file; `raw({ depth: "ushort" })`, by which one asks for 16 bits, returns the
# same 101 in 16 bits, and what was one channel has three. `toColourspace("grey16")` keeps the numbers of these files and
# multiplies those of masks of 8 bits by 257, so that one line of code is right for one kind of mask alone. Nothing is said;
# sharp's issue 3809 asks about the 8 bits and was closed as a question.
#
#   ids 7, 26001, 26002, 33005: turned 0 101 128, raw of ushort 0 101 128 in 3 channels, grey16 7 26001 26002 33005;
#   ids 1, 2, 11 of 8 bits in grey16: 257 514 2827
#
# Answered by dance_ondevice/images/codec.py, which refuses masks of more than 8 bits instead of cutting them.
# Needs node and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --silent --no-fund --no-audit --prefix "$folder" 'sharp@0.35.5' 'fast-png@8.0.0' >/dev/null
cd "$folder"
cat >masks.mjs <<'JS'
import { decode, encode } from 'fast-png';
import sharp from 'sharp';

const sixteen = [7, 26001, 26002, 33005];
const eight = [1, 2, 11, 11];
const distinct = values => [...new Set(values)].sort((a, b) => a - b).join(' ');
const mask = ids => {
  const depth = Math.max(...ids) > 255 ? 16 : 8;
  const data = (depth === 16 ? Uint16Array : Uint8Array).from({ length: 64 }, (_, pixel) => ids[pixel >> 4]);
  return Buffer.from(encode({ width: 8, height: 8, channels: 1, depth, data }));
};
const words = buffer => new Uint16Array(buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.length));
const raw = pipeline => pipeline.raw({ depth: 'ushort' }).toBuffer({ resolveWithObject: true });

const file = distinct(decode(mask(sixteen)).data);
const turned = decode(await sharp(mask(sixteen)).rotate(90).png().toBuffer());
const resized = decode(await sharp(mask(sixteen)).resize(4, 4, { kernel: 'nearest' }).png().toBuffer());
const asked = await raw(sharp(mask(sixteen)));
const kept = await raw(sharp(mask(sixteen)).toColourspace('grey16'));
const multiplied = await raw(sharp(mask(eight)).toColourspace('grey16'));
const seen = {
  'in the file': file,
  turned: `${distinct(turned.data)} (${turned.depth} bits)`,
  resized: `${distinct(resized.data)} (${resized.depth} bits)`,
  'raw of ushort': `${distinct(words(asked.data))} (${asked.info.channels} channels)`,
  grey16: distinct(words(kept.data)),
  'a mask of 1, 2, 11 in grey16': distinct(words(multiplied.data)),
};
console.log(`sharp ${sharp.versions.sharp}: ids`, JSON.stringify(seen));
const expected = ['7 26001 26002 33005', '0 101 128 (8 bits)', '0 101 128 (8 bits)', '0 101 128 (3 channels)', '7 26001 26002 33005', '257 514 2827'];
if (JSON.stringify(Object.values(seen)) !== JSON.stringify(expected)) {
  console.error('this has changed');
  process.exit(1);
}
JS
node masks.mjs

#!/usr/bin/env bash
# sharp 0.35.5, pngjs 7.0.0, jimp 1.6.1, upng-js 2.1.0 (npm), with which pages and tools for labels are built, read a PNG of 16 bits, as Cityscapes'
# instances (class * 1000 + number) and depths are, and give one byte of each pixel: nearly all ids of a class are one, and small ones are 0. They say
# "16 bits" of the file (pngjs: `depth` 16, "support for reading 16 bit files"), the picture looks right and nothing is said. sharp's
# `raw({ depth: 'ushort' })` gives the same bytes in two each, and its `.png()` writes a file of 8 bits and three channels. pngjs has an option
# (`skipRescale`), sharp `pipelineColourspace('grey16')` with `toColourspace('grey16')`; fast-png 8.0.0 gives the ids as they are.
#
#   0 1 255 256 26001 26002 33005: pngjs and jimp 0 0 1 1 101 101 128, sharp and upng-js 0 0 0 1 101 101 128, fast-png as they are
# Needs python3, node and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'opencv-python-headless==5.0.0.93' 'numpy==2.2.6'
npm install --silent --no-fund --no-audit --prefix "$folder" 'sharp@0.35.5' 'pngjs@7.0.0' 'jimp@1.6.1' 'upng-js@2.1.0' 'fast-png@8.0.0' >/dev/null
cd "$folder"
"$folder/venv/bin/python" -c "
import cv2, numpy
cv2.imwrite('instanceIds.png', numpy.array([[0, 1, 255, 256, 26001, 26002, 33005]], numpy.uint16))"
cat > read.mjs <<'JS'
import { readFileSync } from 'node:fs';
import { decode } from 'fast-png';
import { Jimp } from 'jimp';
import pngjs from 'pngjs';
import sharp from 'sharp';
import UPNG from 'upng-js';

const FILE = 'instanceIds.png';
const bytes = readFileSync(FILE);
const every = (values, step) => Array.from(values).filter((_, at) => at % step === 0).join(' ');
const words = (buffer) => new Uint16Array(buffer.buffer, buffer.byteOffset, buffer.length / 2);
const png = pngjs.PNG.sync.read(bytes);
const written = decode(await sharp(FILE).png().toBuffer());
const seen = {
  sharp: every(await sharp(FILE).raw().toBuffer(), 3),
  'sharp, ushort': every(words(await sharp(FILE).raw({ depth: 'ushort' }).toBuffer()), 3),
  'sharp, grey16': every(words(await sharp(FILE).pipelineColourspace('grey16').toColourspace('grey16').raw({ depth: 'ushort' }).toBuffer()), 1),
  'sharp, written again': `${written.depth} bits, ${written.channels} channels`,
  pngjs: every(png.data, 4),
  'pngjs, depth': String(png.depth),
  jimp: every((await Jimp.read(FILE)).bitmap.data, 4),
  'upng-js': every(new Uint8Array(UPNG.toRGBA8(UPNG.decode(bytes))[0]), 4),
  'fast-png': every(decode(bytes).data, 1),
};
console.log(seen);
const [scaled, high, right] = ['0 0 1 1 101 101 128', '0 0 0 1 101 101 128', '0 1 255 256 26001 26002 33005'];
const expected = [high, high, right, '8 bits, 3 channels', scaled, '16', scaled, high, right];
process.exit(Object.values(seen).join() === expected.join() ? 0 : 1);
JS
node read.mjs || { echo "this has changed" >&2; exit 1; }

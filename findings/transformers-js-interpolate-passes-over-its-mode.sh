#!/usr/bin/env bash
# @huggingface/transformers 4.3.2 (npm): `interpolate(tensor, size, mode, align_corners)` is exported and documented with torch's words, and heeds
# neither of the last two: all is bilinear from the middles of the pixels. A mask of class ids brought to the frame's size with "nearest" has ids
# between two classes that meet, and the scores of a network that was trained with `align_corners` lie aside. No error, the size is right.
# `interpolate_4d` of the same package is another implementation (it runs an ONNX model) and heeds "nearest". `Tensor.round` takes
# halves up, torch to the even number, and `RawImage.crop([1, 1, 3, 3])` has the last column and row, which Pillow's leaves out.
#
#   ids 0 7 18 255 to eight, "nearest": 0 1.75 5.25 9.75 ... 255, by interpolate_4d 0 0 7 7 18 18 255 255; align_corners: as without
# Needs node and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --silent --no-fund --no-audit --ignore-scripts --prefix "$folder" '@huggingface/transformers@4.3.2' >/dev/null
cd "$folder"
cat > modes.mjs <<'JS'
import { RawImage, Tensor, interpolate, interpolate_4d } from '@huggingface/transformers';

const ids = Float32Array.from([0, 7, 18, 255]);
const row = () => new Tensor('float32', ids.slice(), [1, 1, 4]);
const list = (tensor) => Array.from(tensor.data).join(' ');
const picture = new RawImage(new Uint8ClampedArray(5 * 5 * 3), 5, 5, 3);
const cut = await picture.crop([1, 1, 3, 3]);
const seen = {
  bilinear: list(interpolate(row(), [1, 8], 'bilinear', false)),
  nearest: list(interpolate(row(), [1, 8], 'nearest', false)),
  'align_corners': list(interpolate(row(), [1, 8], 'bilinear', true)),
  'interpolate_4d, nearest': list(await interpolate_4d(row().view(1, 1, 1, 4), { size: [1, 8], mode: 'nearest' })),
  'round of 0.5 1.5 2.5': list(new Tensor('float32', Float32Array.from([0.5, 1.5, 2.5]), [3]).round()),
  'crop from 1 to 3': `${cut.width} ${cut.height}`,
};
console.log('transformers 4.3.2 (npm):', seen);
const middles = '0 1.75 5.25 9.75 15.25 77.25 195.75 255';
const expected = [middles, middles, middles, '0 0 7 7 18 18 255 255', '1 2 3', '3 3'];
process.exit(Object.values(seen).join() === expected.join() ? 0 : 1);
JS
node modes.mjs || { echo "this has changed" >&2; exit 1; }

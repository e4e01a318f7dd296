#!/usr/bin/env bash
# @huggingface/transformers 4.3.2 (npm): `post_process_semantic_segmentation`, which makes a mask of a network's scores, takes the scores of the
# first class as its scratch memory when it is not told a size: they are the largest score of each pixel afterwards. The first mask is right. A
# second one of the same scores, for a picture, a confidence or a comparison, is the first class from edge to edge, a softmax of
# them is wrong, and nothing is said. Told a `target_sizes`, as most examples do, it works on a copy. Python's leaves the scores alone.
#
#   mask of 2 x 2 pixels: 1 0 2 0, the second time 0 0 0 0; scores of class 0 before 1 1 1 1, after 5 1 9 1; with a size: 1 0 2 0 twice
# Needs node and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --silent --no-fund --no-audit --ignore-scripts --prefix "$folder" '@huggingface/transformers@4.3.2' >/dev/null
cd "$folder"
cat > twice.mjs <<'JS'
import { SegformerImageProcessor, Tensor } from '@huggingface/transformers';

const processor = new SegformerImageProcessor({});
const scores = () => new Tensor('float32', Float32Array.from([1, 1, 1, 1, 5, 0, 5, 0, 0, 0, 9, 0]), [1, 3, 2, 2]);
const mask = (logits, sizes = null) =>
  Array.from(processor.post_process_semantic_segmentation({ logits }, sizes)[0].segmentation.data).join(' ');

const asked = scores();
const first = mask(asked);
const second = mask(asked);
const left = Array.from(asked.data.slice(0, 4)).join(' ');
const sized = scores();
const seen = [first, second, left, mask(sized, [[2, 2]]), mask(sized, [[2, 2]])];
console.log(`transformers 4.3.2 (npm): first "${first}", second "${second}", scores of class 0 now "${left}"; with a size "${seen[3]}", "${seen[4]}"`);
const expected = ['1 0 2 0', '0 0 0 0', '5 1 9 1', '1 0 2 0', '1 0 2 0'];
process.exit(seen.join() === expected.join() ? 0 : 1);
JS
node twice.mjs || { echo "this has changed" >&2; exit 1; }

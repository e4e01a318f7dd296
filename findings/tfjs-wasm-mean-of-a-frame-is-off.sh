#!/usr/bin/env bash
# @tensorflow/tfjs 4.22.0 and its backend "wasm" 4.22.0 (npm), the quick one where there is no GPU: `tf.sum` adds up in one float32, value by value, and
# `tf.mean` and `tf.moments`, so normalisation and global pooling, divide what comes out. The larger the sum, the more of each value is
# rounded away: a full HD map of 0.1 has a mean of 0.098, and from 16,777,216 ones on (nine masks) nothing is added any more. The backend "cpu" of
# the same package, numpy and torch, float32 all three, add in parts or in float64 and are right. A `sum` of int32 or bool is right,
# a `mean` of bool, as the share of right pixels, is not. A test with small maps shows nothing.
#
#   mean of 1920 x 1080 of 0.1: cpu 0.1000, wasm 0.0983; share of right pixels of 20,000,000 right ones: cpu 1, wasm 0.839; sum of bool equal
# Needs node and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --silent --no-fund --no-audit --ignore-scripts --prefix "$folder" '@tensorflow/tfjs@4.22.0' '@tensorflow/tfjs-backend-wasm@4.22.0' >/dev/null
cd "$folder"
cat > mean.cjs <<'JS'
const tf = require('@tensorflow/tfjs');
require('@tensorflow/tfjs-backend-wasm');

const round = (value) => Number(value.toFixed(4));
(async () => {
  const seen = {};
  for (const backend of ['cpu', 'wasm']) {
    await tf.setBackend(backend);
    const frame = tf.fill([1080, 1920], 0.1);
    const right = tf.ones([20000000], 'int32').equal(1);
    seen[backend] = [
      round((await tf.mean(frame).data())[0]),
      round((await tf.moments(frame).mean.data())[0]),
      round((await tf.mean(right).data())[0]),
      (await tf.sum(right).data())[0],
      round((await tf.mean(tf.fill([64, 64], 0.1)).data())[0]),
    ];
    tf.disposeVariables();
  }
  console.log(`tfjs ${tf.version['tfjs-core']}: mean and moments of a full HD map of 0.1, mean and sum of 20,000,000 true, mean of 64 x 64 of 0.1:`, seen);
  const expected = { cpu: [0.1, 0.1, 1, 20000000, 0.1], wasm: [0.0983, 0.0983, 0.8389, 20000000, 0.1] };
  process.exit(JSON.stringify(seen) === JSON.stringify(expected) ? 0 : 1);
})();
JS
node mean.cjs 2>/dev/null || { echo "this has changed" >&2; exit 1; }

#!/usr/bin/env bash
# scikit-image 0.26.0: `measure.shannon_entropy`, taken for how much there is to see in an image, has no bins: it counts how often each
# value occurs. `transform.resize` of the same package returns floats, nearly all of them different, and the entropy is then the
# logarithm of the number of pixels, whatever the image shows; sensor noise of a millionth does the same. Every frame is as
# complex as the next, and a larger one is more so. Rounded to bytes, they differ again.
#
#   entropy of 128x128 bytes: soft 5.6, textured 7.7, noise 8.0; resized to 64x64 all 12.0 = log2(4096); rounded 5.6, 7.6, 6.9
#
# Answered by dance_ondevice/complexity.py (`LumaEntropy`), which takes the histogram of grey bytes.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'scikit-image==0.26.0' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.measure import shannon_entropy
from skimage.transform import resize

noise = np.random.default_rng(0).integers(0, 256, (128, 128)).astype(np.uint8)
images = {
    "soft": (4 * (gaussian_filter(noise.astype(float), 8) - 128) + 128).clip(0, 255).astype(np.uint8),
    "textured": (4 * (gaussian_filter(noise.astype(float), 1.5) - 128) + 128).clip(0, 255).astype(np.uint8),
    "noise": noise,
}
seen = {}
for name, image in images.items():
    small = resize(image, (64, 64), preserve_range=True)
    seen[name] = [float(shannon_entropy(each)) for each in (image, small, small.round().astype(np.uint8))]
    print("scikit-image {}: {}: bytes {:.2f}, resized {:.2f}, in bytes again {:.2f}".format(version("scikit-image"), name, *seen[name]))
before, resized, again = zip(*seen.values(), strict=True)
good = before[0] + 1 < before[2] and again[0] + 1 < again[2] and max(abs(each - 12) for each in resized) < 0.1
raise SystemExit(0 if good else "this has changed")
PY

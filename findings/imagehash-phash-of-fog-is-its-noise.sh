#!/usr/bin/env bash
# imagehash 4.3.2: `phash`, named first where near duplicates are looked for and taken for the sturdier one, splits 64 cosine coefficients of
# the picture at their median. A smooth scene (fog, an empty sky, a wall at dusk) has a few that are large and dozens near 0, so that the
# bits around the median are the camera's noise: two frames of a still camera, one grey level of noise apart, differ in 20 of 64 bits,
# as different pictures do, and none is a duplicate of another. `dhash` and `average_hash` of the same frames agree; with texture all do.
#
#   10 frames of a still scene, noise of 1 level, mean of 64 bits that differ: smooth phash 20.5, dhash 0, average_hash 0; textured phash 0,
#   dhash 0, average_hash 0
#
# Answered by dance_ondevice/images/signature.py: a flat frame's deviation is taken as no less than 4 levels, so that noise is no pattern.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'ImageHash==4.3.2' 'pillow==12.0.0' 'scipy==1.16.3' 'numpy==2.2.6'
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version
from itertools import combinations

import imagehash
import numpy as np
from PIL import Image

random = np.random.default_rng(0)
rows, columns = np.mgrid[:480, :640]
smooth = 90 + 40 * np.sin(columns / 50) + 20 * np.cos(rows / 40)
blocks = np.kron(random.uniform(-60, 60, (12, 16)), np.ones((40, 40)))


def frames(scene):
    """Ten frames of a still camera."""
    noisy = (np.clip(scene + random.normal(0, 1, scene.shape), 0, 255) for _ in range(10))
    return [Image.fromarray(frame.round().astype(np.uint8)) for frame in noisy]


def apart(kind, images):
    """The mean number of bits in which two of them differ."""
    hashes = [kind(image) for image in images]
    return round(float(np.mean([one - other for one, other in combinations(hashes, 2)])), 1)


kinds = (imagehash.phash, imagehash.dhash, imagehash.average_hash)
seen = {}
for name, scene in {"smooth": smooth, "textured": smooth + blocks}.items():
    images = frames(scene)
    seen[name] = {kind.__name__: apart(kind, images) for kind in kinds}
print(f"imagehash {version('imagehash')}: mean of 64 bits that differ: {seen}")
good = seen["smooth"].pop("phash") > 10 and max(*seen["smooth"].values(), *seen["textured"].values()) < 2
raise SystemExit(0 if good else "this has changed")
PY

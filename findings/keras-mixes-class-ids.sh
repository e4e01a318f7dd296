#!/usr/bin/env bash
# keras 3.15.1: its layers for augmentation take `segmentation_masks` beside the images, and those that move pixels give back the ids that
# came. `MixUp` and `AugMix` mix pictures, and do the same with the masks: a pixel of class 0 mixed with one of class 2 is class 0.3 or 1.4,
# in a float mask that a cast to integers makes a class which nobody drew, 1, without an error. `CutMix`, which pastes a rectangle, keeps ids.
# Masks of one-hot classes may be mixed; nothing asks for them.
#
#   ids 0 and 2 come back: CutMix 0, 2; RandomRotation 0, 2; MixUp and AugMix with values between, 1 among them after a cast
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'keras==3.15.1' 'jax==0.10.2' 'jaxlib==0.10.2' 'numpy==2.2.6'
KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W ignore - <<'PY'
import keras
import numpy as np

keras.utils.set_random_seed(1)
masks = np.zeros((16, 16, 16, 1), np.uint8)
masks[::2, :, 8:] = 2  # every second one has the other class on its right
masks[1::2, 8:] = 2
batch = {
    "images": np.random.default_rng(0).random((16, 16, 16, 3)).astype(np.float32) * 255,
    "segmentation_masks": masks,
    "labels": np.eye(16, dtype=np.float32),
}
seen = {}
for layer in (keras.layers.CutMix(), keras.layers.RandomRotation(0.3), keras.layers.MixUp(), keras.layers.AugMix()):
    given = {name: value.copy() for name, value in batch.items()}
    mask = np.array(layer(given, training=True)["segmentation_masks"])
    seen[type(layer).__name__] = np.unique(mask.astype(np.int64)).tolist(), round(float((mask % 1 != 0).mean()), 2)
print(f"keras {keras.__version__} ({keras.backend.backend()}), ids [0, 2]: ids after a cast, share of values between: {seen}")
kept = all(seen[name] == ([0, 2], 0.0) for name in ("CutMix", "RandomRotation"))
mixed = all(1 in seen[name][0] and seen[name][1] > 0 for name in ("MixUp", "AugMix"))
raise SystemExit(0 if kept and mixed else "this has changed")
PY

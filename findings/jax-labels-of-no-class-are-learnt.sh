#!/usr/bin/env bash
# optax 0.2.8 and keras 3.15.1 on jax 0.10.2: what masks hold for "no label", 255 or -1, is a mistake that torch answers with an error. In
# `optax.softmax_cross_entropy_with_integer_labels` -1 counts from the end: every pixel without a label is learnt as the last class. 255 makes
# the loss NaN, and its gradient is finite: a step is taken that lowers what the network is surest of, so that a guard which looks for NaN in
# the weights finds none. keras with the same labels says 0 for them, which draws the mean of a scarcely labelled mask towards 0, where the
# very same script with its torch backend raises. `where=` and `ignore_class=` are the remedy.
#
#   3 classes: loss of -1 4.04, that of class 2; of 255 NaN, with a gradient of 0.96, 0.02, 0.02; in keras 0 for both
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'optax==0.2.8' 'keras==3.15.1' 'jax==0.10.2' 'jaxlib==0.10.2' 'numpy==2.2.6'
KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax

logits = jnp.array([4.0, 0.0, 0.0])


def loss(scores, label):
    return optax.losses.softmax_cross_entropy_with_integer_labels(scores[None], jnp.array([label]))[0]


seen = {}
for label in (2, -1, 255):
    slope = [round(float(each), 2) for each in jax.grad(loss)(logits, label)]
    by_keras = keras.losses.sparse_categorical_crossentropy(np.array([label]), np.asarray(logits)[None], from_logits=True)
    seen[label] = round(float(loss(logits, label)), 2), slope, round(float(np.asarray(by_keras)[0]), 2)
print(f"optax {version('optax')}, jax {jax.__version__}, keras {keras.__version__}: label: loss, gradient, keras's loss: {seen}")
last, minus, far = seen.values()
good = minus[:2] == last[:2] and np.isnan(far[0]) and far[1] == [0.96, 0.02, 0.02] and last[2] > 1 and abs(minus[2]) == abs(far[2]) == 0
raise SystemExit(0 if good else "this has changed")
PY

#!/usr/bin/env bash
# distributed 2026.8.0 with torch 2.13.0: every worker process of Dask begins with MALLOC_TRIM_THRESHOLD_=65536, so that memory returns
# to the system. That also fixes the size from which glibc maps each block by itself, which grows with what is freed otherwise. So
# each tensor above 128 KB is mapped, cleared page by page and unmapped again, layer by layer: a training step in a worker takes two
# to three times the CPU time of the same step in the process that asks for it, and no profile of Python or torch shows why.
#
#   a step of a small network at 256x256: outside 263 ms of CPU and 50704 page faults, in a worker 726 ms and 327773
#
# Answered by dance_ondevice/runtime/heap.py (`keep_freed`, which sets both).
# Needs python3, a network and a C library of GNU. Ends with status 1 if a worker's step no longer costs 1.3 times as much.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6' \
    'distributed==2026.8.0' 'dask==2026.8.0'
cat >"$folder/step.py" <<'PY'
import resource

import distributed


def step():
    """CPU milliseconds and page faults of a training step."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1)]
    for _ in range(6):
        layers += [nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16)]
    network, images = nn.Sequential(*layers), torch.rand(4, 3, 256, 256)
    for number in range(15):
        if number == 5:
            before = resource.getrusage(resource.RUSAGE_SELF)
        network.zero_grad()
        network(images).square().mean().backward()
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 100 * seconds, (after.ru_minflt - before.ru_minflt) / 10


if __name__ == "__main__":
    import torch

    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        with distributed.Client(cluster) as client:
            inside = client.submit(step).result()
            kept = client.submit(lambda: __import__("os").environ.get("MALLOC_TRIM_THRESHOLD_")).result()
    outside = step()
    print(f"distributed {distributed.__version__}, torch {torch.__version__}, a step outside: {outside[0]:.0f} ms of CPU, "
          f"{outside[1]:.0f} page faults; in a worker (MALLOC_TRIM_THRESHOLD_={kept}): {inside[0]:.0f} ms, {inside[1]:.0f}")
    same = inside[0] > 1.3 * outside[0] and inside[1] > 2 * outside[1]
    raise SystemExit(0 if same else "this has changed")
PY
"$folder/venv/bin/python" "$folder/step.py"

#!/usr/bin/env bash
# rasterio 1.4.4: `merge` puts rasters together and documents that of two that overlap the first one stays (or the last, or the smaller value).
# In masks that say nothing of `nodata`, where every pixel is a class, it takes 0, the first class, for a hole: whatever the second one has
# there shows through, so that a road under the overlap of two tiles becomes what the other tile says. Gaps between the tiles are 0, road,
# too. "min" gives 2 where 0 and 2 meet. `reproject` likewise fills what lies outside its source with 0, over the 255 that the array was
# made with. `nodata=255`, in the file or the call, is right in all of them.
#
#   0 0 1 1 over 2 2 2 2: first 2 2 1 1, min 2 2 1 1, with nodata=255 0 0 1 1; reproject into 255 255 255 255 255 255: 0 7 7 7 7 0
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'rasterio==1.4.4' 'numpy==2.2.6'
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import rasterio
from rasterio.merge import merge
from rasterio.transform import from_origin
from rasterio.warp import reproject

PLACE = "EPSG:32633"


def tile(name, ids, x=0):
    ids = np.uint8([ids])
    with rasterio.open(
        name, "w", driver="GTiff", height=1, width=ids.shape[1], count=1, dtype="uint8", crs=PLACE, transform=from_origin(x, 1, 1, 1)
    ) as file:
        file.write(ids, 1)
    return name


one, other, away = tile("one.tif", [0, 0, 1, 1]), tile("other.tif", [2, 2, 2, 2]), tile("away.tif", [2, 2], x=6)


def merged(*tiles, **how):
    return merge(tiles, **how)[0].ravel().tolist()


def around(**how):
    """A source of four pixels, one pixel inside a prepared array of six."""
    made = np.full((1, 6), 255, np.uint8)
    places = {"src_transform": from_origin(1, 1, 1, 1), "dst_transform": from_origin(0, 1, 1, 1), "src_crs": PLACE, "dst_crs": PLACE}
    reproject(np.full((1, 4), 7, np.uint8), made, **places, **how)
    return made.ravel().tolist()


seen = {
    "first": merged(one, other),
    "min": merged(one, other, method="min"),
    "nodata=255": merged(one, other, nodata=255),
    "gap": merged(one, away),
    "reproject": around(),
    "reproject, nodata=255": around(dst_nodata=255),
}
print(f"rasterio {rasterio.__version__}:", seen)
expected = {
    "first": [2, 2, 1, 1],
    "min": [2, 2, 1, 1],
    "nodata=255": [0, 0, 1, 1],
    "gap": [0, 0, 1, 1, 0, 0, 2, 2],
    "reproject": [0, 7, 7, 7, 7, 0],
    "reproject, nodata=255": [255, 7, 7, 7, 7, 255],
}
raise SystemExit(0 if seen == expected else "this has changed")
PY

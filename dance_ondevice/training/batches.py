"""From labelled files to training batches: buckets of one size, augmentation, and a reproducible order.

Batch ``k`` is a pure function of the samples, the options and ``k``: an interrupted training resumes with
exactly the batches it would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.files import read_regular
from dance_ondevice.images.codec import decode_colour, decode_label
from dance_ondevice.images.headers import ImageError, probe
from dance_ondevice.images.labels import IGNORE, LabelError, check_label
from dance_ondevice.training.decoded import Decoded

Image = NDArray[np.uint8]
#: Fewest images in a batch: batch normalisation has no variance over one image of one pixel.
MIN_BATCH = 2
_GREY = 127
_REDUCTIONS = (8, 4, 2)


class SampleError(ValueError):
    """A sample cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class TrainingSample:
    """One labelled image on disk.

    Attributes:
        image: An encoded colour image (JPEG, PNG or WebP).
        label: An 8-bit single-channel PNG of class ids, 255 = ignore; of the image's size or of any other,
            for instance the camera's own when the image was stored smaller.
        weight: How much the sample counts in the loss; 1 is the mean.
        scale: Train and predict on the image resized by this factor.
        void: Further ids to ignore, such as a data set's "unlabelled".
    """

    image: Path
    label: Path
    weight: float = 1.0
    scale: float = 1.0
    void: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """How batches are made.

    Attributes:
        num_classes: Class ids are below this.
        batch_size: Images a batch; at least ``MIN_BATCH`` are used.
        size: (height, width) that every image is fitted to and cropped to, times the sample's ``scale``;
            None: each image at its own size times ``scale``, batched with those of the same size.
        augment: Random zoom with crop, horizontal flip and colour jitter.
        zoom: Smallest and largest random zoom, drawn uniformly on a logarithmic axis.
        jitter: Largest relative change of brightness, contrast and saturation.
        seed: Decides the order and every random draw.
    """

    num_classes: int
    batch_size: int = 8
    size: tuple[int, int] | None = None
    augment: bool = True
    zoom: tuple[float, float] = (0.75, 1.75)
    jitter: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be 1 or more")
        if not 1 <= self.num_classes <= IGNORE:
            raise ValueError(f"num_classes is {self.num_classes}; it must be between 1 and {IGNORE}")
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size is {self.size}; height and width must be 1 or more")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"zoom is {self.zoom}; it must be (smallest, largest), both above 0")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter is {self.jitter}; it must be in [0, 1)")


@dataclass(frozen=True)
class Batch:
    """Images of one size: (N,H,W,3) uint8 BGR, their labels (N,H,W) uint8 and weights (N,) float32."""

    images: Image
    labels: Image
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Draw:
    """The random choices for one image: ``x`` and ``y`` in [0,1] place the crop; gains are factors."""

    zoom: float = 1.0
    x: float = 0.5
    y: float = 0.5
    flip: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0


def draw_augmentation(rng: np.random.Generator, options: BatchOptions) -> Draw:
    """Draw the augmentation of one image."""
    low, high = np.log(options.zoom)
    gains = rng.uniform(1 - options.jitter, 1 + options.jitter, size=3)
    return Draw(
        zoom=float(np.exp(rng.uniform(low, high))),
        x=float(rng.random()),
        y=float(rng.random()),
        flip=bool(rng.random() < 0.5),
        brightness=float(gains[0]),
        contrast=float(gains[1]),
        saturation=float(gains[2]),
    )


def read_label(sample: TrainingSample, num_classes: int) -> Image:
    """The sample's label (H,W) with its void ids ignored.

    Raises:
        SampleError: The file is missing, no label, or holds ids out of range.
    """
    try:
        label = decode_label(read_regular(sample.label))
        if sample.void:
            label = np.where(np.isin(label, sample.void), np.uint8(IGNORE), label)
        check_label(label, num_classes)
    except (OSError, ImageError, LabelError) as error:
        raise SampleError(f"{sample.label}: {error}") from error
    return label


def read_image(sample: TrainingSample, at_least: tuple[float, float] | None = None) -> Image:
    """The sample's image (h,w,3) BGR at its stored size.

    Args:
        sample: The sample.
        at_least: (height, width) that will be needed: an image that is much larger is decoded at a half,
            a quarter or an eighth of its size, which for a JPEG costs a fraction.

    Raises:
        SampleError: The file is missing or no image.
    """
    try:
        data = read_regular(sample.image)
        info = probe(data)
        return decode_colour(data, _reduction((info.height, info.width), at_least))
    except (OSError, ImageError) as error:
        raise SampleError(f"{sample.image}: {error}") from error


def _reduction(size: tuple[int, int], at_least: tuple[float, float] | None) -> int:
    """By how much an image of a (height, width) may be decoded smaller where so much of it is needed."""
    room = min(size[0] / at_least[0], size[1] / at_least[1]) if at_least is not None else 1.0
    return next((r for r in _REDUCTIONS if r <= room), 1)


def image_size(sample: TrainingSample) -> tuple[int, int]:
    """(height, width) of the stored image, from its header.

    Raises:
        SampleError: The file is missing or no image.
    """
    try:
        info = probe(read_regular(sample.image))
    except (OSError, ImageError) as error:
        raise SampleError(f"{sample.image}: {error}") from error
    return info.height, info.width


def class_frequencies(
    samples: Sequence[TrainingSample], num_classes: int, decoded: Decoded | None = None
) -> NDArray[np.float64]:
    """Share of the labelled pixels by class, (num_classes,); zeros when nothing is labelled.

    Args:
        samples: All that are trained on.
        num_classes: Class ids are below this.
        decoded: Keeps the labels for the batches that follow; None keeps nothing.

    Raises:
        SampleError: A label cannot be used.
    """
    counts = np.zeros(num_classes, np.int64)
    decoded = decoded or Decoded(0)
    for sample in samples:
        label = _label(sample, num_classes, decoded)
        counts += np.bincount(label.ravel(), minlength=256)[:num_classes]
    frequencies: NDArray[np.float64] = counts / max(1, int(counts.sum()))
    return frequencies


def _label(sample: TrainingSample, num_classes: int, decoded: Decoded) -> Image:
    return decoded.get(
        ("label", sample.label, sample.void, num_classes), lambda: read_label(sample, num_classes)
    )


def fit(image: Image, label: Image, size: tuple[int, int], draw: Draw) -> tuple[Image, Image]:
    """Resize, crop, flip and recolour one image and its label to ``size``.

    At ``zoom`` 1 the image covers ``size`` exactly in one direction and is cropped in the other. What a zoom
    below 1 leaves empty is grey and ignored.

    Args:
        image: (h,w,3) uint8 BGR.
        label: uint8 class ids of any size; stretched over the image.
        size: (height, width) to return.
        draw: The choices; ``Draw()`` is a centred crop and nothing else.

    Returns:
        The image (height,width,3) and the label (height,width).
    """
    import cv2  # on use: its pixel limit is read at its first import, see images.limit_pixels

    height, width = size
    source_height, source_width = image.shape[:2]
    if label.shape != image.shape[:2]:
        label = _resize(label, (source_height, source_width), cv2.INTER_NEAREST_EXACT)
    factor = max(height / source_height, width / source_width) * draw.zoom
    y0, y1, top, rows = _window(source_height, height, factor, draw.y)
    x0, x1, left, columns = _window(source_width, width, factor, draw.x)
    smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = _resize(image[y0:y1, x0:x1], (rows, columns), smooth)
    relabelled = _resize(label[y0:y1, x0:x1], (rows, columns), cv2.INTER_NEAREST_EXACT)
    resized = recolour(resized, draw)
    if (rows, columns) != size:
        canvas = np.full((height, width, 3), _GREY, np.uint8)
        canvas[top : top + rows, left : left + columns] = resized
        blank = np.full((height, width), IGNORE, np.uint8)
        blank[top : top + rows, left : left + columns] = relabelled
        resized, relabelled = canvas, blank
    if draw.flip:
        resized, relabelled = resized[:, ::-1], relabelled[:, ::-1]
    return resized, relabelled


def recolour(image: Image, draw: Draw) -> Image:
    """Change saturation (mix with the grey image), then contrast around mid-grey, then brightness."""
    import cv2

    if draw.saturation != 1:
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        image = _uint8(cv2.addWeighted(image, draw.saturation, grey, 1 - draw.saturation, 0))
    if (draw.contrast, draw.brightness) != (1, 1):
        levels = ((np.arange(256) - 128) * draw.contrast + 128) * draw.brightness
        image = _uint8(cv2.LUT(image, np.clip(np.rint(levels), 0, 255).astype(np.uint8)))
    return image


class BatchPlan:
    """Which samples make up batch ``k``, and the batch itself.

    An epoch visits every sample. Samples of one target size make a bucket; a bucket's last, incomplete batch
    is filled with other samples of the bucket, so that batches are full where the bucket is large enough.
    Batches of different buckets are mixed.
    """

    def __init__(
        self, samples: Sequence[TrainingSample], options: BatchOptions, decoded: Decoded | None = None
    ) -> None:
        """Sort the samples into buckets (reads image headers when ``options.size`` is None).

        ``decoded`` keeps images and labels from one epoch to the next; batches are the same without it.

        Raises:
            SampleError: An image cannot be used, or a weight or a scale is impossible.
            ValueError: There are no samples.
        """
        if not samples:
            raise ValueError("there are no samples to train on")
        self.samples = tuple(samples)
        self.options = options
        buckets: dict[tuple[int, int], list[int]] = {}
        for index, sample in enumerate(samples):
            if not (sample.weight >= 0 and np.isfinite(sample.weight)):
                raise SampleError(f"{sample.image}: weight is {sample.weight}; it must be 0 or more")
            if not (sample.scale > 0 and np.isfinite(sample.scale)):
                raise SampleError(f"{sample.image}: scale is {sample.scale}; it must be above 0")
            height, width = options.size if options.size is not None else image_size(sample)
            size = max(1, round(height * sample.scale)), max(1, round(width * sample.scale))
            buckets.setdefault(size, []).append(index)
        self.buckets = {size: tuple(members) for size, members in sorted(buckets.items())}
        self.steps_per_epoch = sum(-(-len(m) // options.batch_size) for m in self.buckets.values())
        self._decoded = decoded or Decoded(0)
        self._sizes: dict[int, tuple[int, int]] = {}
        self._epoch = -1
        self._order: list[tuple[tuple[int, int], tuple[int, ...]]] = []

    def members(self, step: int) -> tuple[tuple[int, int], tuple[int, ...]]:
        """Size (height, width) and sample indices of batch ``step``."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = self._arrange(np.random.default_rng((self.options.seed, 0, epoch)))
            self._epoch = epoch
        return self._order[position]

    def _arrange(self, rng: np.random.Generator) -> list[tuple[tuple[int, int], tuple[int, ...]]]:
        wanted = self.options.batch_size
        batches = []
        for size, bucket in self.buckets.items():
            order = rng.permutation(bucket)
            for start in range(0, len(order), wanted):
                chosen = order[start : start + wanted]
                if len(chosen) < wanted and start:
                    chosen = np.concatenate(
                        [chosen, rng.choice(order[:start], wanted - len(chosen), replace=False)]
                    )
                if len(chosen) < MIN_BATCH:
                    chosen = np.resize(chosen, MIN_BATCH)
                batches.append((size, tuple(int(index) for index in chosen)))
        return [batches[position] for position in rng.permutation(len(batches))]

    def load(self, step: int) -> Batch:
        """Decode and augment batch ``step``.

        Raises:
            SampleError: A file is missing or not what it should be.
        """
        size, members = self.members(step)
        rng = np.random.default_rng((self.options.seed, 1, step))
        images, labels = [], []
        for index in members:
            draw = draw_augmentation(rng, self.options) if self.options.augment else Draw()
            image, label = self._decode(index, (size[0] * draw.zoom, size[1] * draw.zoom))
            image, label = fit(image, label, size, draw)
            images.append(image)
            labels.append(label)
        weights = np.array([self.samples[index].weight for index in members], np.float32)
        return Batch(np.stack(images), np.stack(labels), weights)

    def _decode(self, index: int, at_least: tuple[float, float]) -> tuple[Image, Image]:
        """An image as large as needed, and its label."""
        sample = self.samples[index]
        if index not in self._sizes:  # as stored; kept, or the file would be read for its header alone
            self._sizes[index] = image_size(sample)
        reduce = _reduction(self._sizes[index], at_least)
        image = self._decoded.get(("image", sample.image, reduce), lambda: read_image(sample, at_least))
        return image, _label(sample, self.options.num_classes, self._decoded)


def _window(source: int, target: int, factor: float, place: float) -> tuple[int, int, int, int]:
    """Along one axis: first and last source pixel, first target pixel and number of target pixels.

    The window of ``target / factor`` source pixels lies inside the source at ``place`` in [0,1]; when the
    source is shorter, all of it lies inside the target at ``place``.
    """
    span = max(1, round(target / factor))
    if span <= source:
        first = round((source - span) * place)
        return first, first + span, 0, target
    filled = min(target, max(1, round(source * factor)))
    return 0, source, round((target - filled) * place), filled


def _resize(array: Image, size: tuple[int, int], interpolation: int) -> Image:
    import cv2

    if array.shape[:2] == size:
        return array
    return _uint8(cv2.resize(array, (size[1], size[0]), interpolation=interpolation))


def _uint8(array: object) -> Image:
    """Narrow cv2's return type."""
    return np.asarray(array, np.uint8)

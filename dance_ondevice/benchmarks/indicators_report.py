"""What ``bench indicators`` finds out, and how it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: What the default indicator is meant to reach.
TARGET_RHO = 0.8
TARGET_SCALE = "0.5"
TARGET_OF_DECODE = 0.2


@dataclass(frozen=True, kw_only=True)
class ImageLoss:
    """What downsampling costs one image.

    Attributes:
        image: file name.
        miou: of its own at full size, over the classes in its label, 0 to 1.
        loss: scale -> that minus the mIoU when inferred at the scale; negative where smaller was better.
    """

    image: str
    miou: float
    loss: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class IndicatorResult:
    """How good and how dear one indicator is.

    Attributes:
        needs: what it looks at beside the grey frame; "" for nothing.
        rho: scale -> Spearman's rank correlation of its score with the loss; None where it has none.
        microseconds: median for a 640x480 frame; None where a time says nothing.
        of_grey_decode: the same as a fraction of a grey JPEG decode of that frame.
    """

    needs: str
    rho: Mapping[str, float | None]
    microseconds: float | None
    of_grey_decode: float | None

    @property
    def on_target(self) -> bool:
        """Whether it ranks well enough and is cheap enough."""
        rho = self.rho.get(TARGET_SCALE)
        return (
            rho is not None
            and self.of_grey_decode is not None
            and rho >= TARGET_RHO
            and self.of_grey_decode <= TARGET_OF_DECODE
        )


@dataclass(frozen=True, kw_only=True)
class IndicatorsReport:
    """One run of the benchmark.

    Attributes:
        dataset: name.
        split: the images' split.
        learnt_from: what the learnt indicator has learnt from; "" where there was none.
        model: architecture, version and what else tells the model.
        miou: scale -> mIoU of all images together, inferred at that scale; one confusion matrix.
        grey_decode_microseconds: median for a 640x480 JPEG of quality 95.
        indicators: by name, the best first.
        losses: one an image.
        served: mIoU of all images together where full size and each scale get an equal share of them, by the
            indicator that chooses which; beside it chance, and one scale for all that costs the same. Empty
            in older results.
    """

    dataset: str
    split: str
    learnt_from: str
    model: Mapping[str, str | int | None]
    miou: Mapping[str, float]
    grey_decode_microseconds: float
    indicators: Mapping[str, IndicatorResult]
    losses: tuple[ImageLoss, ...]
    served: Mapping[str, float] = field(default_factory=dict)


def scale_key(scale: float) -> str:
    """A scale as a key: ``0.5``."""
    return f"{scale:g}"

"""The recipe of each variant: its stages, its choice of samples, and its scale of inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from dance_ondevice.slimming.importance import Importance
from dance_ondevice.training.stages import Stage

Setting = Literal["scratch", "finetune"]
Protocol = Literal["long", "full", "quick"]

#: Epochs of the dense baseline. On CamVid its mIoU still rises a little at the end of the full protocol.
EPOCHS: Mapping[tuple[Protocol, Setting], int] = {
    ("long", "scratch"): 96,
    ("long", "finetune"): 96,
    ("full", "scratch"): 24,
    ("full", "finetune"): 24,
    ("quick", "scratch"): 4,
    ("quick", "finetune"): 4,
}
#: Learning rate at the end of the warm-up, by setting.
LEARNING_RATES: Mapping[Setting, float] = {"scratch": 5e-3, "finetune": 1e-3}
#: MACs after network slimming as a share of those before, from the target for inference.
TARGET_MACS = 0.42
#: The layers at the highest resolutions, which cost most and change least from one scene to the next.
FIRST_LAYERS: Mapping[str, tuple[str, ...]] = {
    "fastscnn": ("downsample",),
    "deeplabv3plus": ("encoder.stem", "encoder.stages.0"),
    "pspnet": ("encoder.stem",),
    "bisenetv2": ("detail.0", "semantic.stem"),
    "hrnet": ("stem",),
    "espnetv2": ("base_net.level1", "base_net.level2_0"),
}
#: The encoders, whose features an ablation of fine-tuning leaves as they are.
ENCODERS: Mapping[str, tuple[str, ...]] = {
    "fastscnn": ("downsample", "bottlenecks"),
    "deeplabv3plus": ("encoder",),
    "pspnet": ("encoder",),
    "bisenetv2": ("detail", "semantic"),
    "hrnet": ("stem", "first", "open_finest", "open_stream", "stages"),
    "espnetv2": ("base_net",),
}
#: Stand for them in a stage.
_FIRST, _ENCODER = ("first layers",), ("encoder",)
#: The same for DANCE+, which infers at a smaller scale as well.
PLUS_MACS = 0.45
#: The same for a model that was made compact, of which little can be missed.
GENTLE_MACS = 0.75
#: Scale of DANCE+'s inference: near the middle of the magnifications in its training.
PLUS_SCALE = 0.75
#: Windows of DANCE+, as shares of the full side, and what they magnify by: the whole frame small, then a part
#: of it at up to more than its own size, where poles and signs are still to be seen.
_SMALL, _LARGE = 0.4, 0.5
_FAR, _NEAR, _WIDE, _DETAIL = (0.45, 1.0), (0.5, 1.15), (0.5, 1.5), (0.7, 1.3)
#: Among what one ablation chooses for each image that it infers.
_FRAME_SCALES = (1.0, 0.75, 0.5)
_BY_FRAME = "dance+, inferring each image at a scale by its complexity"
#: Fine-tuning on windows takes more and noisier steps than dense does on whole frames.
_FINE_RATE = 0.3
#: Steps that the way there is taken in, and the shares of the epochs before it and on it.
_STEPS = 5
#: How often the controls of the choice draw anew over a training.
_DRAWS = 8
_BEFORE, _ON_THE_WAY = 0.4, 0.2


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The recipe of one variant.

    Attributes:
        stages: Stages of the training.
        inference_scales: Scales of inference: one for all images, or several that are chosen by complexity.
        mean_scale: Mean scale of the images in inference, by which multi-scale branches are slimmed.
        batch_size: Images in each step.
        rate: Factor of the setting's learning rate.
        trained_as: Variant whose model this one shares, where only inference differs; "" to train its own.
        about: Description for the report.
    """

    stages: tuple[Stage, ...]
    inference_scales: tuple[float, ...] = (1.0,)
    mean_scale: float = 1.0
    batch_size: int = 8
    rate: float = 1.0
    trained_as: str = ""
    about: str

    @property
    def slims(self) -> bool:
        """Whether the training removes channels."""
        return any(stage.macs_fraction < 1 for stage in self.stages)


#: From the epochs of dense to a recipe.
Builder = Callable[[int], Recipe]


def recipe(variant: str, protocol: Protocol, setting: Setting, architecture: str = "fastscnn") -> Recipe:
    """Return the recipe of a variant; layers that it freezes are the first ones of the architecture.

    Raises:
        ValueError: There is no such variant in this setting; the message names the existing ones.
    """
    builders = VARIANTS[setting]
    if variant not in builders:
        raise ValueError(f"{setting} knows no variant {variant!r}; choose among {', '.join(builders)}")
    found = builders[variant](EPOCHS[protocol, setting])
    if setting == "finetune" and not found.slims:
        # What is left after a cut needs other statistics.
        stages = tuple(replace(stage, fixed_statistics=True) for stage in found.stages)
        found = replace(found, stages=stages, about=f"{found.about}, statistics of batch norms fixed")
    if not any(stage.frozen for stage in found.stages):
        return found
    named: Mapping[tuple[str, ...], Mapping[str, tuple[str, ...]]] = {
        _FIRST: FIRST_LAYERS,
        _ENCODER: ENCODERS,
    }
    stages = tuple(
        replace(stage, frozen=named[stage.frozen].get(architecture, ()) if stage.frozen else ())
        for stage in found.stages
    )
    unknown = "" if architecture in ENCODERS else f" (none here: the layers of {architecture} are not known)"
    return replace(found, stages=stages, about=found.about + unknown)


def _dense(epochs: int) -> Recipe:
    return Recipe(stages=(Stage(epochs=epochs),), about="all images, full size, all channels")


def _shorter(share: float, about: str) -> Builder:
    """A control: dense training that ends early, its learning rate falling to zero by then."""
    return lambda epochs: replace(
        _dense(_part(epochs, share)), about=f"all images, full size, all channels, for {about}"
    )


def _data(epochs: int) -> Recipe:
    return Recipe(
        stages=(Stage(epochs=epochs, choice="service"),),
        about="data slimming as the service does it: 30 % of each light dropped by chance, the rest at three "
        "scales by their complexity",
    )


def _drawn(which: str, about: str, *, scale: str = "random", weight: str = "inverse") -> Builder:
    """A control: 30 % of the images are dropped, drawn anew in each of a few stages."""

    def build(epochs: int) -> Recipe:
        count = min(_DRAWS, epochs)
        ends = [epochs * number // count for number in range(count + 1)]
        stages = tuple(
            Stage(epochs=end - start, choice=f"draw:{which}/{scale}/{weight}:{number}")
            for number, (start, end) in enumerate(pairwise(ends))
        )
        return Recipe(stages=stages, about=f"30 % dropped, drawn anew {count} times: {about}")

    return build


def _network(epochs: int) -> Recipe:
    return Recipe(stages=_progressive(epochs, "all"), about="DANCE's network slimming: channels go in steps")


def _dance(epochs: int) -> Recipe:
    return Recipe(
        stages=_progressive(epochs, "service"),
        mean_scale=0.75,
        about="DANCE: data and network slimming, multi-scale branches slimmed by the mean scale",
    )


def _dance_plus(epochs: int) -> Recipe:
    """Train small windows first, slim early, then train on full detail."""
    return _plus(
        epochs, "small windows first, slimmed early, 30 % of each light dropped by chance, batches of 4"
    )


def _fine_plus(epochs: int) -> Recipe:
    """Fine-tune trained weights on small windows; no channel goes."""
    return _fine(epochs, "windows of a quarter of the pixels, batches of 4")


def _fine(epochs: int, about: str, *, frozen: tuple[str, ...] = ()) -> Recipe:
    stage = Stage(epochs=epochs, window=_LARGE, zoom=_WIDE, frozen=frozen)
    return Recipe(stages=(stage,), batch_size=4, rate=_FINE_RATE, about=about)


def _fine_slimmed(epochs: int, about: str, *, macs: float) -> Recipe:
    """Fine-tune whole frames for a few epochs with the first layers frozen, and slim after one of them."""
    first = Stage(epochs=_part(epochs, 0.04), zoom=_DETAIL, frozen=_FIRST)
    thin = replace(first, epochs=_part(epochs, 0.25), macs_fraction=macs)
    return Recipe(stages=(first, thin), batch_size=4, rate=1.5, about=about)


def _plus(
    epochs: int,
    about: str,
    *,
    small_first: bool = True,
    which: str = "random-condition",
    macs: float = PLUS_MACS,
    importance: Importance = "combined",
    frozen: tuple[str, ...] = (),
) -> Recipe:
    first = Stage(
        epochs=_part(epochs, 0.125),
        window=_SMALL if small_first else _LARGE,
        zoom=_FAR if small_first else _NEAR,
        frozen=frozen,
    )
    steps = [
        replace(
            first, epochs=_part(epochs, 0.085), macs_fraction=1 - (1 - macs) * step / 3, importance=importance
        )
        for step in (1, 2, 3)
        if macs < 1
    ]
    last = replace(
        steps[-1] if steps else first,
        epochs=_part(epochs, 0.42),
        window=_LARGE,
        zoom=_NEAR,
    )
    return Recipe(
        stages=(
            first,
            *steps,
            *(replace(last, choice=f"draw:{which}/full/one:{n}" if which else "all") for n in (0, 1)),
        ),
        inference_scales=(PLUS_SCALE,),
        mean_scale=PLUS_SCALE,
        batch_size=4,
        about=about,
    )


def _inferring(ours: Recipe, scales: tuple[float, ...], about: str) -> Recipe:
    return replace(ours, inference_scales=scales, trained_as="dance+", about=about)


def _part(epochs: int, share: float) -> int:
    return max(1, round(epochs * share))


def _progressive(epochs: int, choice: str) -> tuple[Stage, ...]:
    """Stages at full width, then in steps down to the target, then the rest at the target."""
    steps = min(_STEPS, max(1, round(epochs * _ON_THE_WAY)))
    each = max(1, round(epochs * _ON_THE_WAY / steps))
    before = max(1, round(epochs * _BEFORE))
    stages = [Stage(epochs=before, choice=choice)]
    for step in range(1, steps):
        fraction = 1 - (1 - TARGET_MACS) * step / steps
        stages.append(Stage(epochs=each, choice=choice, macs_fraction=fraction))
    left = max(1, epochs - sum(stage.epochs for stage in stages))
    return (*stages, Stage(epochs=left, choice=choice, macs_fraction=TARGET_MACS))


_ANYWHERE: Mapping[str, Builder] = {
    "dense": _dense,
    "data": _data,
    "network": _network,
    "dance": _dance,
    # What the simplest way to save energy reaches: to train for less long.
    "dense-half": _shorter(0.5, "half of the epochs"),
    "dense-quarter": _shorter(0.25, "a quarter of the epochs"),
    # Which images, at equal MACs: scales at random in the same shares.
    "random": _drawn("random", "any images"),
    "random-condition": _drawn("random-condition", "any images of each light"),
    "infobatch": _drawn("infobatch", "images below the mean loss, of which the others count for them"),
    "least-loss": _drawn("least-loss", "the images of least loss"),
    "complexity": _drawn("complexity", "the simple images of each light more often, weighed by their chance"),
    # At which scale, against random-condition, and how much they count, against complexity.
    "scale-complexity": _drawn("random-condition", "any, scales by complexity", scale="complexity"),
    "scale-one": _drawn("random-condition", "any, one scale for all", scale="one"),
    "weight-one": _drawn("complexity", "like complexity, all weights 1", weight="one"),
}
#: By setting. The variants whose names go on after dance+ are its ablations: the setting's own dance+ with
#: one thing changed.
VARIANTS: Mapping[Setting, Mapping[str, Builder]] = {
    "scratch": {
        **_ANYWHERE,
        "dance+": _dance_plus,
        "dance+large-first": lambda n: _plus(
            n, "dance+ with large windows from the start", small_first=False
        ),
        "dance+all-images": lambda n: _plus(n, "dance+ without dropping images", which=""),
        "dance+least-loss": lambda n: _plus(
            n, "dance+ with the images of least loss dropped", which="least-loss"
        ),
        "dance+full-width": lambda n: _plus(n, "dance+ without network slimming", macs=1.0),
        "dance+bn-scale": lambda n: _plus(
            n, "dance+ slimmed by scales, without Taylor", importance="bn_scale"
        ),
        "dance+frozen": lambda n: _plus(n, "dance+ with the first layers frozen", frozen=_FIRST),
        "dance+batch-8": lambda n: replace(_plus(n, "dance+ in batches of 8"), batch_size=8, rate=1.4),
        "dance+batch-16": lambda n: replace(_plus(n, "dance+ in batches of 16"), batch_size=16, rate=2.0),
        "dance+twice": lambda n: _plus(2 * n, "dance+ for twice as many epochs"),
        "dance+four-times": lambda n: _plus(4 * n, "dance+ for four times as many epochs"),
        "dance+full-scale": lambda n: _inferring(_dance_plus(n), (1.0,), "dance+, inferring at full scale"),
        "dance+frame-scale": lambda n: _inferring(_dance_plus(n), _FRAME_SCALES, _BY_FRAME),
    },
    # Fine-tuning keeps the statistics of batch norms where it cuts nothing. Its dance+ removes no channel,
    # which cost more than it saved, and infers at full scale.
    "finetune": {
        **_ANYWHERE,
        "dance+": _fine_plus,
        "dance+late": lambda n: _fine(n, "dance+ with the encoder frozen", frozen=_ENCODER),
        "dance+slimmed": lambda n: _fine_slimmed(
            n,
            "whole frames, the first layers frozen, slimmed to 0.45 of the MACs after an epoch",
            macs=PLUS_MACS,
        ),
        "dance+gentle": lambda n: _fine_slimmed(
            n, "the same, slimmed to three quarters of the MACs", macs=GENTLE_MACS
        ),
        "dance+three-quarters": lambda n: _fine(_part(n, 0.75), "dance+ for three quarters of the epochs"),
        "dance+twice": lambda n: _fine(2 * n, "dance+ for twice as many epochs"),
        "dance+small-scale": lambda n: _inferring(
            _fine_plus(n), (PLUS_SCALE,), "dance+, inferring at three quarters of the size"
        ),
        "dance+frame-scale": lambda n: _inferring(_fine_plus(n), _FRAME_SCALES, _BY_FRAME),
    },
}

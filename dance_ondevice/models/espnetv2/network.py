"""ESPNetv2 (Mehta, Rastegari, Shapiro, Hajishirzi: "ESPNetv2: A Light-weight, Power Efficient, and General
Purpose Convolutional Neural Network", CVPR 2019, arXiv 1811.11431).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from dance_ondevice.models.espnetv2.pyramid import SCALES, GatedSkip, NormAct, PyramidHead, enlarge
from dance_ondevice.models.espnetv2.units import BRANCHES, EESP, ConvNormAct, StridedEESP
from dance_ondevice.models.layers import Removed

#: Dilations of a unit's branches at 1/4, 1/8 and 1/16, and of the last units: the receptive field of a branch
#: is no larger than what the paper allows at that resolution.
_DILATIONS = (1, 2, 3, 4)
_LAST_DILATIONS = (1, 1, 2, 3)


class Encoder(nn.Module):
    """The encoder (table 1 of the paper, without its classifier)."""

    def __init__(self, widths: Sequence[int], repeats: Sequence[int]) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.level1 = ConvNormAct(3, first, 3, stride=2)
        self.level2_0 = StridedEESP(first, second, dilations=_DILATIONS)
        self.level3_0 = StridedEESP(second, third, dilations=_DILATIONS)
        self.level3 = nn.ModuleList(EESP(third, third, dilations=_DILATIONS) for _ in range(repeats[0]))
        self.level4_0 = StridedEESP(third, fourth, dilations=_DILATIONS)
        self.level4 = nn.ModuleList(
            EESP(fourth, fourth, dilations=_LAST_DILATIONS) for _ in range(repeats[1])
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map an image (N, 3, H, W) to features at 1/2, 1/4, 1/8 and 1/16."""
        first = self.level1(image)
        second = self.level2_0(first, image)
        third = self.level3_0(second, image)
        for unit in self.level3:
            third = unit(third)
        fourth = self.level4_0(third, image)
        for unit in self.level4:
            fourth = unit(fourth)
        return first, second, third, fourth


class ESPNetV2(nn.Module):
    """ESPNetv2 for segmentation, with the widths of its small variant by default: 0.23 million parameters.

    Args:
        num_classes: Number of classes, the channels of the output.
        widths: Widths of the encoder at 1/2, 1/4, 1/8 and 1/16. The larger published variant has
            (32, 128, 256, 512).
        repeats: Number of units at 1/8 and 1/16 after the one that halves.
        decoder: Widths of the decoder at 1/16, 1/8 and 1/4.
        pyramid: Width that each of the decoder's pyramid heads filters at. The dilations of the encoder's
            units and the scales of these heads are the multi-scale groups.

    Raises:
        ValueError: A list has another length, a number is below 1, or the encoder's widths do not rise by
            multiples of 16.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        widths: Sequence[int] = (32, 64, 128, 256),
        repeats: Sequence[int] = (3, 7),
        decoder: Sequence[int] = (64, 48, 32),
        pyramid: int = 10,
    ) -> None:
        super().__init__()
        for name, values, count in (("widths", widths, 4), ("repeats", repeats, 2), ("decoder", decoder, 3)):
            if len(values) != count:
                raise ValueError(f"{name} takes {count} numbers, found {list(values)}")
        if min(num_classes, pyramid, *widths, *repeats, *decoder) < 1:
            raise ValueError("class count, widths and repeats must all be at least 1")
        steps = [after - before for before, after in itertools.pairwise(widths)]
        if min(steps) < 1 or any(n % BRANCHES**2 for n in steps) or widths[0] % BRANCHES:
            raise ValueError(
                f"widths rise by multiples of {BRANCHES**2} from a multiple of {BRANCHES}, "
                f"found {list(widths)}"
            )
        first, second, third, fourth = widths
        self.base_net = Encoder(widths, repeats)
        self.merge_enc_dec_l2 = GatedSkip(third, decoder[0])
        self.merge_enc_dec_l3 = GatedSkip(second, decoder[1])
        self.merge_enc_dec_l4 = GatedSkip(first, decoder[2])
        self.bu_dec_l1 = PyramidHead(fourth, decoder[0], width=pyramid, last=False)
        self.bu_dec_l2 = PyramidHead(decoder[0], decoder[1], width=pyramid, last=False)
        self.bu_dec_l3 = PyramidHead(decoder[1], decoder[2], width=pyramid, last=False)
        self.bu_dec_l4 = PyramidHead(decoder[2], num_classes, width=pyramid, last=True)
        self.bu_br_l2, self.bu_br_l3, self.bu_br_l4 = (NormAct(width).br for width in decoder)

    @staticmethod
    def arguments_of(shapes: Mapping[str, Sequence[int]]) -> dict[str, object]:
        """Return the arguments that a network with tensors of these shapes was built with.

        Args:
            shapes: Shapes of the tensors by name.

        Raises:
            KeyError: A tensor that the arguments follow from is missing.
        """

        def counted(level: int) -> int:
            prefix = f"base_net.level{level}."
            return len(
                {name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)}
            )

        first = shapes["base_net.level1.conv.weight"][0]
        others = [shapes[f"base_net.level{level}_0.act.weight"][0] for level in (2, 3, 4)]
        return {
            "widths": [first, *others],
            "repeats": [counted(3), counted(4)],
            "decoder": [shapes[f"bu_dec_l{level}.merge_layer.3.weight"][0] for level in (1, 2, 3)],
            "pyramid": shapes["bu_dec_l1.projection_layer.cbr.0.weight"][0],
        }

    def forward(self, x: Tensor) -> Tensor:
        """Classify every pixel of (N, 3, H, W), H and W of any size.

        Returns:
            Logits (N, C, H, W), enlarged as when the published weights were trained. In training mode they
            stay at half the size, since the loss is computed at no more.
        """
        logits = self.coarse_logits(x)
        return logits if self.training else enlarge(logits, x.shape[2:])

    def coarse_logits(self, x: Tensor) -> Tensor:
        """Compute the logits (N, C, H / 2, W / 2) that ``forward`` enlarges."""
        first, second, third, fourth = self.base_net(x)
        found = self.bu_dec_l1(fourth)
        found = self.bu_br_l2(self.merge_enc_dec_l2(third) + enlarge(found, third.shape[2:]))
        found = self.bu_dec_l2(found)
        found = self.bu_br_l3(self.merge_enc_dec_l3(second) + enlarge(found, second.shape[2:]))
        found = self.bu_dec_l3(found)
        found = self.bu_br_l4(self.merge_enc_dec_l4(first) + enlarge(found, first.shape[2:]))
        logits: Tensor = self.bu_dec_l4(found)
        return logits

    def multi_scale_groups(self) -> dict[str, tuple[str, ...]]:
        """Map the dilations of the encoder's units and the scales of the decoder to their modules' names.

        The smaller the input, the less a wide dilation is worth; the larger it is, the less a scale of 2.
        """
        dilations: dict[str, list[str]] = {}
        for name, unit in self._units():
            for index, dilation in enumerate(unit.dilations):
                if not isinstance(unit.spp_dw[index], Removed):
                    dilations.setdefault(f"dilation {dilation}", []).append(f"{name}.spp_dw.{index}")
        scales = {
            f"scale {scale:g}": [f"{name}.stages.{index}" for name, _ in self._heads()]
            for scale, index in self.bu_dec_l1.present().items()
        }
        return {name: tuple(dilations[name]) for name in sorted(dilations)} | {
            name: tuple(modules) for name, modules in scales.items()
        }

    def branch_contexts(self) -> dict[str, float]:
        """Map each group to the side of its receptive field, in positions of the features that it filters."""
        every = {f"dilation {d}": 2.0 * d + 1 for d in _DILATIONS} | {f"scale {s:g}": 3 / s for s in SCALES}
        return {name: every[name] for name in self.multi_scale_groups()}

    def removable_branches(self) -> tuple[str, ...]:
        """List the groups that can be removed whole: every dilation but 1, and every scale but the last."""
        groups = list(self.multi_scale_groups())
        scales = [name for name in groups if name.startswith("scale")]
        dilations = [name for name in groups if name.startswith("dilation") and name != "dilation 1"]
        return (*dilations, *(scales if len(scales) > 1 else ()))

    def remove_branch(self, name: str) -> None:
        """Remove one of these groups; see :func:`dance_ondevice.models.branches.remove_branches`."""
        if name not in self.removable_branches():
            raise KeyError(name)
        kind, _, number = name.partition(" ")
        if kind == "scale":
            for _, head in self._heads():
                head.remove(float(number))
            return
        for _, unit in self._units():
            for index, dilation in enumerate(unit.dilations):
                if dilation == int(number):
                    unit.spp_dw[index] = Removed()

    def _units(self) -> Iterator[tuple[str, EESP]]:
        return ((name, module) for name, module in self.named_modules() if isinstance(module, EESP))

    def _heads(self) -> Iterator[tuple[str, PyramidHead]]:
        return ((name, module) for name, module in self.named_children() if isinstance(module, PyramidHead))

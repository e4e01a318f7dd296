"""HRNet for segmentation, HRNetV2-W18-Small-v2 by default (Wang et al.: "Deep High-Resolution Representation
Learning for Visual Recognition", TPAMI 2020, arXiv 1908.07919).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dance_ondevice.models.channels import drop_inputs, layer_channels
from dance_ondevice.models.layers import BasicBlock, ConvBNReLU, Removed, resize

#: Divisors of the image's sides that give the resolution of each stream.
STREAM_STRIDES = (4, 8, 16, 32)


class Bottleneck(nn.Module):
    """ResNet's bottleneck of 1 x 1, 3 x 3 and 1 x 1 convolutions; the last widens by 4 (arXiv 1512.03385)."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            ConvBNReLU(in_channels, width, 1),
            ConvBNReLU(width, width, 3),
            ConvBNReLU(width, out, 1, activation=False),
        )
        self.shortcut = (
            nn.Identity() if in_channels == out else ConvBNReLU(in_channels, out, 1, activation=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, 4 * width, H, W)."""
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


def exchange_path(source: int, target: int, widths: Sequence[int]) -> nn.Module:
    """Build the path that turns a stream into its contribution to another (figure 3).

    To a finer stream it is a 1 x 1 convolution; the caller upsamples its output. To a coarser stream it is a
    3 x 3 of stride 2 for each halving; all but the last keep the width and have a ReLU.
    """
    if source > target:
        return ConvBNReLU(widths[source], widths[target], 1, activation=False)
    halvings = target - source
    keep = [ConvBNReLU(widths[source], widths[source], 3, stride=2) for _ in range(halvings - 1)]
    return nn.Sequential(*keep, ConvBNReLU(widths[source], widths[target], 3, stride=2, activation=False))


class Exchange(nn.Module):
    """One multi-resolution block: residual blocks in each stream, then an exchange between all streams.

    It maps a list of (N, C_i, H_i, W_i), finest first, to a list of the same shapes.
    """

    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.streams = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, width) for _ in range(blocks))) for width in widths
        )
        self.paths = nn.ModuleDict(
            {
                f"{source}_to_{target}": exchange_path(source, target, widths)
                for target in range(len(widths))
                for source in range(len(widths))
                if source != target
            }
        )

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Filter each stream and fuse them all."""
        found = [stream(x) for stream, x in zip(self.streams, inputs, strict=True)]
        outputs = []
        for target, own in enumerate(found):
            total = own
            for source, x in enumerate(found):
                if source != target:
                    total = total + resize(self.paths[f"{source}_to_{target}"](x), own.shape[2:])
            outputs.append(F.relu(total))
        return outputs

    def remove_last(self) -> None:
        """Remove the coarsest stream, with the paths from and to it."""
        last = str(len(self.streams) - 1)
        del self.streams[-1]
        for path in [path for path in self.paths if last in path.split("_to_")]:
            del self.paths[path]


class HRNet(nn.Module):
    """HRNetV2: parallel streams of four resolutions, the finest kept to the end, all of them classified.

    Args:
        num_classes: Number of classes, the channels of the output.
        stem: Width of the two stride-2 convolutions at the start and of the bottlenecks of stage 1.
        bottlenecks: Number of those bottlenecks.
        widths: Widths of the streams at 1/4, 1/8, 1/16 and 1/32.
        modules: Numbers of multi-resolution blocks in stages 2, 3 and 4, with two, three and four streams.
        blocks: Number of residual blocks in each stream of such a block.

    Raises:
        ValueError: There are not four widths or not three module counts, or a number is below 1.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        stem: int = 64,
        bottlenecks: int = 2,
        widths: Sequence[int] = (18, 36, 72, 144),
        modules: Sequence[int] = (1, 3, 2),
        blocks: int = 2,
    ) -> None:
        super().__init__()
        for name, values, count in (("widths", widths, 4), ("modules", modules, 3)):
            if len(values) != count:
                raise ValueError(f"{name} takes {count} numbers, found {list(values)}")
        if min(num_classes, stem, bottlenecks, blocks, *widths, *modules) < 1:
            raise ValueError("class count, widths, modules and blocks must all be at least 1")
        self.stem = nn.Sequential(ConvBNReLU(3, stem, 3, stride=2), ConvBNReLU(stem, stem, 3, stride=2))
        self.first = nn.Sequential(
            Bottleneck(stem, stem), *(Bottleneck(4 * stem, stem) for _ in range(bottlenecks - 1))
        )
        # Stage s makes the stream s - 1 from the coarsest so far; stage 1 makes the finest one in the same
        # way.
        self.open_finest = ConvBNReLU(4 * stem, widths[0], 3)
        feeding = (4 * stem, *widths[1:3])
        self.open_stream = nn.ModuleList(
            ConvBNReLU(before, after, 3, stride=2) for before, after in zip(feeding, widths[1:], strict=True)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(Exchange(widths[: index + 2], blocks) for _ in range(count)))
            for index, count in enumerate(modules)
        )
        joined = sum(widths)
        self.head = nn.Sequential(ConvBNReLU(joined, joined, 1), nn.Conv2d(joined, num_classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Classify every pixel of (N, 3, H, W), H and W of any size: logits at a quarter of their size."""
        x = self.first(self.stem(x))
        streams = [self.open_finest(x)]
        coarsest = x
        for open_stream, stage in zip(self.open_stream, self.stages, strict=True):
            if not isinstance(open_stream, Removed):
                streams.append(open_stream(coarsest))
            streams = stage(streams)
            coarsest = streams[-1]
        finest = streams[0].shape[2:]
        joined = torch.cat([resize(stream, finest) for stream in streams], dim=1)
        out: Tensor = self.head(joined)
        return out

    def multi_scale_groups(self) -> dict[str, tuple[str, ...]]:
        """Map each stream to the names of its modules.

        A path between two streams counts as part of the coarser one, so that no module is in two groups.
        Slimming may treat these groups unevenly: the smaller the input, the less a coarse stream is worth.
        """
        return {
            f"stream 1/{stride}": tuple(self._modules_of(index))
            for index, stride in enumerate(STREAM_STRIDES[: self._streams])
        }

    def branch_contexts(self) -> dict[str, float]:
        """Map each stream to the relative side of its receptive field: twice that of the finer one."""
        return {f"stream 1/{stride}": float(stride) for stride in STREAM_STRIDES[: self._streams]}

    def removable_branches(self) -> tuple[str, ...]:
        """List the groups that can be removed whole: the coarsest stream, since no finer one is made from it.

        Once it is removed, the one before it is the coarsest. The finest stream stays.
        """
        return tuple(f"stream 1/{stride}" for stride in STREAM_STRIDES[1 : self._streams][-1:])

    def remove_branch(self, name: str) -> None:
        """Remove this stream; see :func:`dance_ondevice.models.branches.remove_branches`."""
        if name not in self.removable_branches():
            raise KeyError(name)
        last = self._streams - 1
        exchanges = [module for module in self.modules() if isinstance(module, Exchange)]
        # The head reads the streams in order, the coarsest one last.
        reads, ends = self.head.get_submodule("0.conv"), exchanges[-1].streams[last]
        width = [module for module in ends.modules() if isinstance(module, nn.Conv2d)][-1].out_channels
        drop_inputs(reads, layer_channels(reads)[0] - width, width)
        for exchange in exchanges:
            if len(exchange.streams) > last:
                exchange.remove_last()
        self.open_stream[last - 1] = Removed()

    @property
    def _streams(self) -> int:
        return 1 + sum(not isinstance(module, Removed) for module in self.open_stream)

    def _modules_of(self, stream: int) -> Iterator[str]:
        yield "open_finest" if stream == 0 else f"open_stream.{stream - 1}"
        for name, module in self.named_modules():
            if isinstance(module, Exchange) and stream < len(module.streams):
                yield f"{name}.streams.{stream}"
                for path in module.paths:
                    if stream == max(int(end) for end in path.split("_to_")):
                        yield f"{name}.paths.{path}"

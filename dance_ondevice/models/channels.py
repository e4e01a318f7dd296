"""The channels of a model's layers: reading them, removing some, and rebuilding slimmed layers.

A layer's channels are written (in, out, groups), and their numbers are those in the root of the model: the
one that all slimming began with, named by the SHA-256 of its tensors file. Models of one root can be averaged
channel by channel whatever each of them has lost (:mod:`dance_ondevice.fleet`). Layers that act on each
channel alone (normalisation, depthwise convolutions, PReLU) have as many in as out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

LayerChannels = tuple[int, int, int]

_BUILT_WITH = "channels_built_with"
_ORIGIN = "channel_origin"

#: Largest channel number that a tensors file holds.
_MOST = torch.iinfo(torch.int16).max
#: The numbers of a layer's input and of its output channels in the root of its model, both rising.
Origin = tuple[tuple[int, ...], tuple[int, ...]]


def channels_of(model: nn.Module) -> dict[str, LayerChannels]:
    """Return the channels of convolutions, linear layers, batch normalisations and PReLUs by module name."""
    return {name: layer_channels(m) for name, m in model.named_modules() if has_channels(m)}


def remember_widths(model: nn.Module) -> None:
    """Store the present channels on the model as the original ones, unless they are stored already.

    They are a plain attribute: copies of the model have it, its state dict does not. Loading a checkpoint
    stores the architecture's channels before the card's channels are set.
    """
    if not hasattr(model, _BUILT_WITH):
        setattr(model, _BUILT_WITH, channels_of(model))


def keep_built_widths(model: nn.Module, channels: Mapping[str, LayerChannels]) -> None:
    """Store channels on a model as the original ones: it was built around one that has them, or taken out."""
    setattr(model, _BUILT_WITH, dict(channels))


def widths_built_with(model: nn.Module) -> dict[str, LayerChannels]:
    """Return the channels that a model had before any slimming: the stored ones, else the present ones."""
    return {**channels_of(model), **getattr(model, _BUILT_WITH, {})}


def removed_channels(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Return the original and present output channels by module name; the latter is 0 for removed layers.

    The result has every layer with channels, in the model's order, and last those of removed branches, to
    show what slimming removed.
    """
    now = channels_of(model)
    built = widths_built_with(model)
    return {name: (built[name][1], now[name][1] if name in now else 0) for name in built}


def origin_of(module: nn.Module) -> Origin:
    """Return which channels of its root a layer still has.

    The root is the model that all slimming began with. A plain attribute of the layer holds the numbers, so
    that copies have them too; a layer that never lost a channel has all numbers from 0 on.
    """
    found: Origin | None = getattr(module, _ORIGIN, None)
    if found is not None:
        return found
    inputs, outputs, _ = layer_channels(module)
    return tuple(range(inputs)), tuple(range(outputs))


def set_origin(module: nn.Module, origin: Origin) -> None:
    """Record which channels of its root a layer has.

    Raises:
        ValueError: The numbers are not as many as the layer's channels, not rising, or differ between the two
            sides of a layer that acts on each channel alone.
    """
    inputs, outputs, _ = layer_channels(module)
    for side, width in zip(origin, (inputs, outputs), strict=True):
        rising = all(before < after for before, after in pairwise((-1, *side)))
        if len(side) != width or not rising:
            raise ValueError(f"{width} rising channel numbers expected, found {len(side)}: {side[:8]}...")
    if is_channelwise(module) and origin[0] != origin[1]:
        raise ValueError("a layer that keeps channels apart has the same channels on both sides")
    setattr(module, _ORIGIN, origin)


def origin_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the channel numbers of a model for its tensors file.

    Returns:
        int16 tensors "<layer>/in" (inputs,) and "<layer>/out" (outputs,); a layer that acts on each
        channel alone has only the second. A layer wider than 32,768 channels is left out.
    """
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if not has_channels(module):
            continue
        inputs, outputs = origin_of(module)
        if max((*inputs, *outputs), default=0) > _MOST:
            continue
        found[f"{name}/out"] = torch.tensor(outputs, dtype=torch.int16)
        if not is_channelwise(module):
            found[f"{name}/in"] = torch.tensor(inputs, dtype=torch.int16)
    return found


def restore_origins(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Record on a model the channel numbers that :func:`origin_tensors` gave.

    A layer without tensors keeps the numbers it has.

    Raises:
        ValueError: Names the layer whose numbers do not fit it.
    """
    for name, module in model.named_modules():
        if not has_channels(module) or f"{name}/out" not in tensors:
            continue
        outputs = _numbers(tensors[f"{name}/out"])
        inputs = outputs if is_channelwise(module) else _numbers(tensors.get(f"{name}/in"))
        try:
            set_origin(module, (inputs, outputs))
        except ValueError as error:
            widths = layer_channels(module)[:2]
            raise ValueError(f"channel numbers of layer {name} {list(widths)}: {error}") from error


def _numbers(tensor: Tensor | None) -> tuple[int, ...]:
    if tensor is None or tensor.dim() != 1 or tensor.is_floating_point():
        return ()
    return tuple(int(number) for number in tensor.tolist())


def has_channels(module: nn.Module) -> bool:
    """Return whether channels can be removed from this module.

    Not where the weight is computed from other tensors at each pass, as by weight or spectral normalisation.
    """
    if isinstance(module, (_ConvNd, nn.Linear)):
        return "weight" in module._parameters
    return isinstance(module, _NormBase) or (isinstance(module, nn.PReLU) and module.num_parameters > 1)


def layer_channels(module: nn.Module) -> LayerChannels:
    """Return the channels (in, out, groups) of one layer.

    Raises:
        TypeError: The module has no channels.
    """
    if isinstance(module, _ConvNd):
        return module.in_channels, module.out_channels, module.groups
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features, 1
    if isinstance(module, _NormBase):
        return module.num_features, module.num_features, 1
    if isinstance(module, nn.PReLU):
        return module.num_parameters, module.num_parameters, 1
    raise TypeError(f"{type(module).__name__} has no channels")


def is_channelwise(module: nn.Module) -> bool:
    """Return whether output channel i depends on input channel i only, so that both are removed together."""
    if isinstance(module, _ConvNd):
        return 1 < module.groups == module.in_channels == module.out_channels
    return isinstance(module, (_NormBase, nn.PReLU))


def keep_channels(module: nn.Module, inputs: Sequence[int] | None, outputs: Sequence[int] | None) -> None:
    """Keep only some channels of a layer, in place; values, modes and memory format stay.

    Args:
        module: Layer with channels.
        inputs: Input channels that stay, in order; None keeps all. For a channelwise layer they are the same
            as outputs.
        outputs: Output channels that stay, in order; None keeps all.

    Raises:
        ValueError: The blocks of a grouped convolution would have different numbers of channels.
    """
    if is_channelwise(module):
        kept = outputs if outputs is not None else inputs
        if kept is None:
            return
        origin = _kept_origin(module, kept, kept)
        for name, tensor in _tensors(module):
            if tensor.dim() > 0:  # num_batches_tracked is one number for the whole layer
                _replace(module, name, _select(tensor, 0, kept))
        _set_channels(module, len(kept), len(kept))
        setattr(module, _ORIGIN, origin)
        return
    origin = _kept_origin(module, inputs, outputs)
    if isinstance(module, _ConvNd) and module.groups > 1:
        _keep_blocks(module, inputs, outputs)
        setattr(module, _ORIGIN, origin)
        return
    in_axis, out_axis = _weight_axes(module)
    for axis, kept in ((in_axis, inputs), (out_axis, outputs)):
        if kept is not None:
            _replace(module, "weight", _select(_tensor(module, "weight"), axis, kept))
    if outputs is not None and module.bias is not None:
        _replace(module, "bias", _select(_tensor(module, "bias"), 0, outputs))
    before = layer_channels(module)
    _set_channels(
        module,
        len(inputs) if inputs is not None else before[0],
        len(outputs) if outputs is not None else before[1],
    )
    setattr(module, _ORIGIN, origin)


def _kept_origin(module: nn.Module, inputs: Sequence[int] | None, outputs: Sequence[int] | None) -> Origin:
    now_in, now_out = origin_of(module)
    return (
        now_in if inputs is None else tuple(now_in[channel] for channel in inputs),
        now_out if outputs is None else tuple(now_out[channel] for channel in outputs),
    )


def _keep_blocks(module: _ConvNd, inputs: Sequence[int] | None, outputs: Sequence[int] | None) -> None:
    """Keep some channels of a grouped convolution: as many of each block, or none of it."""
    if module.transposed:
        raise ValueError("a transposed convolution with groups cannot lose channels")
    groups = module.groups
    read, written = module.in_channels // groups, module.out_channels // groups
    kept_in = _by_block(range(module.in_channels) if inputs is None else inputs, read, groups)
    kept_out = _by_block(range(module.out_channels) if outputs is None else outputs, written, groups)
    stay = [block for block in range(groups) if kept_in[block] or kept_out[block]]
    sizes = {(len(kept_in[block]), len(kept_out[block])) for block in stay}
    if len(sizes) != 1 or 0 in next(iter(sizes)):
        raise ValueError(f"the {groups} blocks of a grouped convolution must keep as many channels each")
    weight = torch.cat(
        [
            _select(
                _select(_tensor(module, "weight"), 0, kept_out[block]), 1, [c % read for c in kept_in[block]]
            )
            for block in stay
        ]
    )
    layout = torch.channels_last if _is_channels_last(module.weight) else torch.contiguous_format
    _replace(module, "weight", weight.contiguous(memory_format=layout))
    if outputs is not None and module.bias is not None:
        _replace(module, "bias", _select(module.bias, 0, outputs))
    per_block = next(iter(sizes))
    module.groups = len(stay)
    module.in_channels, module.out_channels = per_block[0] * len(stay), per_block[1] * len(stay)


def _by_block(channels: Sequence[int], size: int, groups: int) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in range(groups)]
    for channel in channels:
        found[channel // size].append(channel)
    return found


def silence_inputs(module: nn.Module, inputs: Sequence[int]) -> None:
    """Make a layer deaf to some of its input channels, in place; a channelwise layer stays as it is."""
    if is_channelwise(module):
        return
    if isinstance(module, _ConvNd) and module.groups > 1:
        read, written = module.in_channels // module.groups, module.out_channels // module.groups
        with torch.no_grad():
            for channel in inputs:
                block = channel // read
                module.weight[block * written : (block + 1) * written, channel % read] = 0.0
    else:
        weight, axis = _tensor(module, "weight"), _weight_axes(module)[0]
        index = torch.tensor(list(inputs), dtype=torch.long, device=weight.device)
        with torch.no_grad():
            weight.index_fill_(axis, index, 0.0)


def drop_inputs(module: nn.Module, start: int, count: int) -> None:
    """Remove ``count`` input channels from a layer, in place, from number ``start`` on."""
    inputs = layer_channels(module)[0]
    keep_channels(module, [*range(start), *range(start + count, inputs)], None)


def shapes_for(module: nn.Module, channels: LayerChannels) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the layer's tensors have with these channels.

    Raises:
        ValueError: The layer cannot have these channels.
    """
    inputs, outputs, groups = channels
    own = layer_channels(module)
    if is_channelwise(module):
        if inputs != outputs or groups != (inputs if isinstance(module, _ConvNd) else 1):
            raise ValueError(f"a layer that keeps channels apart cannot have channels {list(channels)}")
        return {
            name: (inputs, *tensor.shape[1:]) if tensor.dim() > 0 else () for name, tensor in _tensors(module)
        }
    fits = groups <= own[2] and inputs % groups == outputs % groups == 0
    if not fits or (own[2] > 1 and getattr(module, "transposed", False) and channels != own):
        raise ValueError(f"a layer of {list(own)} channels cannot have {list(channels)}")
    shape = list(_tensor(module, "weight").shape)
    in_axis, out_axis = _weight_axes(module)
    if channels != own:
        shape[in_axis], shape[out_axis] = inputs // groups, outputs
    found = {"weight": tuple(shape)}
    if module.bias is not None:
        found["bias"] = (outputs,)
    return found


def set_channels(module: nn.Module, channels: LayerChannels) -> None:
    """Set the channels of a layer, in place; its values are lost, and a checkpoint must fill them in.

    Which channels of its root it has is forgotten where a side changes its width; see :func:`set_origin`.

    Raises:
        ValueError: The layer cannot have these channels.
    """
    if channels == layer_channels(module):
        return
    for name, shape in shapes_for(module, channels).items():
        old = _tensor(module, name)
        _replace(module, name, torch.zeros(shape, dtype=old.dtype, device=old.device))
    kept = origin_of(module)
    if isinstance(module, _ConvNd):
        module.groups = channels[2]
    _set_channels(module, channels[0], channels[1])
    setattr(
        module,
        _ORIGIN,
        tuple(
            side if len(side) == width else tuple(range(width))
            for side, width in zip(kept, channels[:2], strict=True)
        ),
    )


def give_outputs(model: nn.Module, name: str, outputs: int) -> None:
    """Give the layer of this name another number of output channels and fresh weights, in place.

    The width that the model remembers to have been built with changes along.
    """
    module = dict(model.named_modules())[name]
    inputs, _, groups = layer_channels(module)
    set_channels(module, (inputs, outputs, groups))
    reset = getattr(module, "reset_parameters", None)
    if reset is not None:
        reset()
    built = getattr(model, _BUILT_WITH, {})
    if name in built:
        built[name] = (built[name][0], outputs, built[name][2])


def _weight_axes(module: nn.Module) -> tuple[int, int]:
    """Return the axes of the weight that count input and output channels."""
    return (0, 1) if getattr(module, "transposed", False) else (1, 0)


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]


def _tensor(module: nn.Module, name: str) -> Tensor:
    found: Tensor = getattr(module, name)
    return found


def _select(tensor: Tensor, axis: int, kept: Sequence[int]) -> Tensor:
    with torch.no_grad():
        index = torch.tensor(list(kept), dtype=torch.long, device=tensor.device)
        chosen = tensor.detach().index_select(axis, index)
        return chosen.contiguous(
            memory_format=torch.channels_last if _is_channels_last(tensor) else torch.contiguous_format
        )


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and not tensor.is_contiguous()


def _replace(module: nn.Module, name: str, value: Tensor) -> None:
    old = getattr(module, name)
    if isinstance(old, nn.Parameter):
        # A new Parameter, not new data in the old one: autograd remembers the shape of the old.
        value = nn.Parameter(value, requires_grad=old.requires_grad)
    setattr(module, name, value)


def _set_channels(module: nn.Module, inputs: int, outputs: int) -> None:
    if isinstance(module, _ConvNd):
        if is_channelwise(module):
            module.groups = outputs
        module.in_channels, module.out_channels = inputs, outputs
    elif isinstance(module, nn.Linear):
        module.in_features, module.out_features = inputs, outputs
    elif isinstance(module, _NormBase):
        module.num_features = outputs
    elif isinstance(module, nn.PReLU):
        module.num_parameters = outputs
    else:
        raise TypeError(f"{type(module).__name__} has no channels")

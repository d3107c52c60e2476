"""Keys as others spell them: prefixes, wrappers of convolutions, other heads; found, taken off, and said."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from tffjax.conversion import foreign, names

from tffjax.errors import InputError

State = Mapping[str, np.ndarray]
COUNTER = "num_batches_tracked"
_INFIX = ".conv."  # of modules that wrap a convolution: _conv_stem.conv.weight


class Layout(NamedTuple):
    """Which network a state dict belongs to, and whose names its keys are."""

    architecture: names.Architecture
    convention: names.Convention


class Spelled(NamedTuple):
    """A state dict in the names of its layout, and what was done to its keys, in words."""

    layout: Layout
    state: dict[str, np.ndarray]
    notes: tuple[str, ...]


LAYOUTS = tuple(
    Layout(architecture, convention)
    for architecture in (*names.RESNETS, *names.EFFICIENTNETS)
    for convention in names.conventions_of(architecture)
)


def spelled(state: State, prefix: str | None = None) -> Spelled:
    """Find the network in a state dict.

    Args:
        state: key -> array in torch layout.
        prefix: of the keys to take, where there are several networks.

    Raises:
        InputError: the keys are those of no known network, or of several.
    """
    prefixes = _prefixes(state) if prefix is None else [prefix if prefix.endswith(".") or not prefix else f"{prefix}."]
    found = {prefix: candidate for prefix in prefixes if (candidate := _under(state, prefix))}
    if not found:
        kind = foreign.what_is(state)
        what = f"this is {kind}" if kind else f"the keys begin {', '.join(list(state)[:3])}"
        raise InputError(
            f"these are not the weights of a supported network: {what}. Supported are ResNet-18 to 152 and "
            "EfficientNet-B0 to B7, with the key names of torchvision, timm or efficientnet_pytorch"
        )
    if len(found) > 1:
        choices = ", ".join(prefix or "''" for prefix in found)
        raise InputError(f"there are several networks in this file; choose one with --prefix: {choices}")
    (prefix, candidate), notes = next(iter(found.items())), []
    if prefix:
        notes.append(f"prefix {prefix!r} taken off")
    notes += candidate.notes
    if outside := [key for key in state if not key.startswith(prefix)]:
        notes.append(f"left over: {some(outside)}")
    return candidate._replace(notes=tuple(notes))


def some(items: list[str], most: int = 10) -> str:
    """At most ten of them; the rest is counted."""
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def _prefixes(state: State) -> list[str]:
    """Prefixes under which a network may begin: in front of the name of a first convolution."""
    firsts = {names.torch_names(*layout)[names.layers(layout.architecture, 1)[0].name] for layout in LAYOUTS}
    ends = {f"{first}{middle}weight" for first in firsts for middle in (".", _INFIX)}
    found = {key.removesuffix(end) for key in state for end in ends if f".{key}".endswith(f".{end}")}
    large = [prefix for prefix in found if sum(key.startswith(prefix) for key in state) > 50]  # not those of blocks
    return sorted(large) or [""]


def _under(state: State, prefix: str) -> Spelled | None:
    inside = {key.removeprefix(prefix): array for key, array in state.items() if key.startswith(prefix)}
    notes = []
    layout, share = _best(inside)
    unwrapped = {key.replace(_INFIX, "."): array for key, array in inside.items()}
    if len(unwrapped) == len(inside) and _best(unwrapped)[1] > share:
        inside, (layout, share) = unwrapped, _best(unwrapped)
        notes.append(f"{_INFIX!r} taken out of keys")
    if share < 0.5:
        return None
    head = names.torch_names(*layout)[names.layers(layout.architecture, 1)[-1].name]
    if other := _other_head(inside, layout, head):
        inside = {
            f"{head}.{key.rpartition('.')[2]}" if key.rpartition(".")[0] == other else key: array
            for key, array in inside.items()
        }
        notes.append(f"the head is {other!r}")
    return Spelled(layout, inside, tuple(notes))


def _best(state: State) -> tuple[Layout, float]:
    """The layout nearest to a state dict, by keys and shapes; and which part of the layout's keys are there."""
    present = {key: array.shape for key, array in state.items() if not key.endswith(COUNTER)}

    def nearness(layout: Layout) -> float:
        wanted = names.tensor_shapes(*layout, 1)
        common = present.keys() & wanted.keys()
        alike = sum(present[key] == wanted[key] for key in common)
        return (len(common) + alike) / (len(present) + _count(layout))

    best = max(LAYOUTS, key=nearness)
    return best, len(present.keys() & names.tensor_shapes(*best, 1).keys()) / _count(best)


def _count(layout: Layout) -> int:
    return sum(not key.endswith(COUNTER) for key in names.tensor_shapes(*layout, 1))


def _other_head(state: State, layout: Layout, head: str) -> str | None:
    """The dense layer that stands where the head should: the only one with weight and bias left over, of its width."""
    wanted = names.tensor_shapes(*layout, 1)
    if f"{head}.weight" in state:
        return None
    width = wanted[f"{head}.weight"][1]
    left = [key.rpartition(".")[0] for key, array in state.items() if key not in wanted and key.endswith(".weight")
            and array.ndim == 2 and array.shape[1] == width]  # fmt: skip
    return left[0] if len(left) == 1 and f"{left[0]}.bias" in state else None

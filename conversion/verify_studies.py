"""What the studies say of a few images, by the PyTorch twin and by ours: FF-RS, LRP-max, feature-map dropout."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Float, Int
from tffjax.conversion import twin, twin_lrp

from tffjax.compile.logits import logits_of
from tffjax.nn import Model
from tffjax.nn.networks import network_of
from tffjax.nn.sites import sites_of
from tffjax.studies.dropout.logits import dropout_logits
from tffjax.studies.ffrs.statistic import relevance_shares
from tffjax.studies.lrpmax.neurons import lrp_max
from tffjax.studies.rankings import Channel, all_channels

DTYPES = ("float64", "float32")
TOLERANCES = {
    # The same real numbers, summed in another order.
    "float64": {"FF-RS": 1e-8, "LRP-max": 1e-8, "dropout": 1e-10},
    # Those of relevances and of logits in `verify_lrp` and `verify`, where their reasons are.
    "float32": {"FF-RS": 1e-1, "LRP-max": 1e-1, "dropout": 1e-3},
}
LRP_MAX_CHANNELS = 6
SHOWN = 5


@dataclasses.dataclass(frozen=True)
class StudyDifference:
    """How far both are apart in what a study says.

    Attributes:
        study: `FF-RS`, `LRP-max` or `dropout`.
        what: which numbers of it.
        dtype: `float32` or `float64`.
        relative: |ours - twin| / |twin|, Euclidean norms, of the worst image (and channel).
    """

    study: str
    what: str
    dtype: str
    relative: float

    @property
    def place(self) -> str:
        """Study and numbers."""
        return f"{self.study}, {self.what}"

    @property
    def ok(self) -> bool:
        """Whether the relative difference is within tolerance (NaN is not)."""
        return self.relative <= TOLERANCES[self.dtype][self.study]


class Shown(NamedTuple):
    """A number of a study as (twin, ours) in float32, then in float64."""

    study: str
    what: str
    values: tuple[float, float, float, float]


class Studies(NamedTuple):
    """All differences, and some of the numbers themselves."""

    differences: tuple[StudyDifference, ...]
    shown: tuple[Shown, ...]


class _Said(NamedTuple):
    """What one network says of all images.

    Attributes:
        shares: r of every channel (SPEC 4) where the network's own decision is explained.
        values: largest activations of some channels.
        maps: by image, LRP-max of these channels, summed over colors; the twin's are of the neurons that ours found.
        logits: of the explained output, with nothing dropped, without the first channels, without the last ones.
    """

    shares: Float[np.ndarray, "n channels"]
    values: Float[np.ndarray, "n c"]
    maps: list[Float[np.ndarray, "c h w"]]
    logits: Float[np.ndarray, "n 3"]


def verify_studies(
    model: Model,
    net: twin.Twin,
    images: list[Float[np.ndarray, "n h w 3"]],
    names: Sequence[str],
    composite: str = "beta0",
    busy: Callable[[str], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Studies:
    """Do FF-RS, LRP-max and dropout of normalized images with both networks, in float64 and float32.

    FF-RS explains what the network decides of each image: a detector's logit or its negative, or the largest output.
    LRP-max is of the best channel of sites along the depth; dropout drops as many of the first and of the last channels
    as the paper does, or 1 % of all. Both take channels from our ranking in float64.

    Args:
        model: ours, as trained.
        net: the twin with the same weights.
        images: float32 NHWC batches, one for each size.
        names: of the images, for what is shown.
        composite: a name that both know.
        busy: entered around every step, with what is going on.
    """
    channels = all_channels(model)
    ours: dict[str, _Said] = {}
    theirs: dict[str, _Said] = {}
    for dtype in DTYPES:
        with jax.enable_x64(dtype == "float64"):
            typed, batches = model.astype(dtype), [batch.astype(dtype) for batch in images]
            with busy(f"our studies in {dtype}"):
                logits, signs, shares = _our_shares(typed, batches, composite)
                if dtype == DTYPES[0]:
                    order = np.argsort(-shares.mean(axis=0), kind="stable")
                    maxima, sets = _chosen(model, channels, order)
                outputs = logits.argmax(axis=1)  # the same in both precisions, or else the logits tell
                ours[dtype], positions = _said_by_us(typed, batches, shares, outputs, composite, maxima, sets)
            with busy(f"PyTorch's studies in {dtype}"):
                theirs[dtype] = _said_by_twin(
                    model, net.to(getattr(torch, dtype)), batches, outputs, signs, composite, maxima, positions, sets
                )
    net.float()
    differences = tuple(
        StudyDifference(*which, dtype, relative)
        for dtype in DTYPES[::-1]
        for which, relative in _distances(ours[dtype], theirs[dtype]).items()
    )
    return Studies(differences, _shown(ours, theirs, channels, order, maxima, names))


def _our_shares(model: Model, batches: list[np.ndarray], composite: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, the sign of what is explained (1 for the output itself), and r of every channel."""
    target = "logit" if model.card.num_outputs == 1 else "top"
    found = []
    for batch in batches:
        images = jnp.asarray(batch)
        logits = np.asarray(logits_of(model, images))
        signs = np.where(logits[:, 0] < 0, -1, 1) if target == "logit" else np.ones(len(batch), int)
        shares = relevance_shares(model, images, jnp.asarray(signs), composite, target=target)
        found.append((logits, signs, np.asarray(shares.shares)))
    return tuple(np.concatenate(arrays) for arrays in zip(*found, strict=True))


def _chosen(
    model: Model, channels: Sequence[Channel], order: Int[np.ndarray, " channels"]
) -> tuple[list[Channel], list[list[Channel]]]:
    """The best channels of sites along the depth, and the sets that are dropped."""
    best: dict[str, Channel] = {}
    for index in order:
        best.setdefault(channels[index].site, channels[index])
    sites = [site.name for site in sites_of(model)]
    along = np.unique(np.linspace(0, len(sites) - 1, LRP_MAX_CHANNELS).round().astype(int))
    k = network_of(model.card).paper_k or max(1, len(channels) // 100)
    ranked = [channels[index] for index in order]
    return [best[sites[index]] for index in along], [[], ranked[:k], ranked[-k:]]


def _said_by_us(
    model: Model,
    batches: list[np.ndarray],
    shares: np.ndarray,
    outputs: np.ndarray,
    composite: str,
    maxima: list[Channel],
    sets: list[list[Channel]],
) -> tuple[_Said, np.ndarray]:
    """And the positions of the neurons that LRP-max explains, (n, c, 2)."""
    explained = [lrp_max(model, jnp.asarray(batch), maxima, composite) for batch in batches]
    logits = np.concatenate([np.asarray(dropout_logits(model, jnp.asarray(batch), sets)) for batch in batches])
    values = np.concatenate([one.values for one in explained])
    maps = [maps for one in explained for maps in one.maps]
    said = _Said(shares, values, maps, logits[np.arange(len(logits)), :, outputs])
    return said, np.concatenate([one.positions for one in explained])


def _said_by_twin(
    model: Model,
    net: twin.Twin,
    batches: list[np.ndarray],
    outputs: np.ndarray,
    signs: np.ndarray,
    composite: str,
    maxima: list[Channel],
    positions: np.ndarray,
    sets: list[list[Channel]],
) -> _Said:
    """One image at a time."""
    bounds = model.card.normalization.bounds
    ruled, _ = twin_lrp.with_rules(net, composite, bounds=bounds)
    folded = twin.canonize(net)
    shares, values, maps, logits = [], [], [], []
    images = [torch.from_numpy(image).permute(2, 0, 1)[None].contiguous() for batch in batches for image in batch]
    for x, output, sign, places in zip(images, outputs.tolist(), signs.tolist(), positions.tolist(), strict=True):
        _, _, sites = twin_lrp.explain(net, x, composite, sign, output, bounds=bounds)
        shares.append(np.concatenate([_shares(relevance[0]) for relevance in sites.values()]))
        _, activations = twin.site_outputs(folded, x)
        values.append([activations[channel.site][0, channel.index].max().item() for channel in maxima])
        received = [
            twin_lrp.explain_maximum(ruled, x, channel.site, channel.index, tuple(place))
            for channel, place in zip(maxima, places, strict=True)
        ]
        maps.append(np.stack([relevance[0].sum(dim=0).numpy() for relevance in received]))
        logits.append([_without(net, x, channels)[output].item() for channels in sets])
    return _Said(np.stack(shares), np.array(values), maps, np.array(logits))


def _shares(relevance: torch.Tensor) -> np.ndarray:
    """r of every channel of a map (c, h, w), SPEC 4."""
    total = relevance.abs().sum()
    return (relevance.clamp(min=0).sum(dim=(1, 2)) / (total if total > 0 else 1)).numpy()


def _without(net: twin.Twin, x: torch.Tensor, channels: Sequence[Channel]) -> torch.Tensor:
    """Logits of an image with channels set to 0 before batch norm (SPEC 6)."""
    dropped: dict[str, list[int]] = {}
    for channel in channels:
        dropped.setdefault(channel.site, []).append(channel.index)

    def drop(indices: list[int]) -> Callable[..., torch.Tensor]:
        return lambda module, inputs, y: y.index_fill(1, torch.tensor(indices), 0.0)

    hooks = [net.get_submodule(site).register_forward_hook(drop(indices)) for site, indices in dropped.items()]
    try:
        with torch.no_grad():
            return net(x)[0]
    finally:
        for hook in hooks:
            hook.remove()


def _distances(ours: _Said, theirs: _Said) -> dict[tuple[str, str], float]:
    """Of study and numbers to the largest relative difference."""
    pairs = {
        ("FF-RS", "shares of all channels"): zip(ours.shares, theirs.shares, strict=True),
        ("LRP-max", "largest activations"): zip(ours.values, theirs.values, strict=True),
        ("LRP-max", "maps"): (
            pair for a, b in zip(ours.maps, theirs.maps, strict=True) for pair in zip(a, b, strict=True)
        ),
        ("dropout", "logits"): [(ours.logits, theirs.logits)],
    }
    return {which: float(np.max([_relative(a, b) for a, b in some])) for which, some in pairs.items()}


def _relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    scale, distance = float(np.linalg.norm(theirs)), float(np.linalg.norm(ours - theirs))
    return distance / scale if scale else distance


def _shown(
    ours: dict[str, _Said],
    theirs: dict[str, _Said],
    channels: Sequence[Channel],
    order: np.ndarray,
    maxima: list[Channel],
    names: Sequence[str],
) -> tuple[Shown, ...]:
    def shown(study: str, what: str, number: Callable[[_Said], float]) -> Shown:
        values = (float(number(said[dtype])) for dtype in ("float32", "float64") for said in (theirs, ours))
        return Shown(study, what, tuple(values))

    rows = [
        shown("FF-RS", f"omega of {channels[index].key}", lambda said, at=index: said.shares[:, at].mean())
        for index in order[:SHOWN]
    ]
    rows += [
        shown("LRP-max", f"relevance of {channel.key}", lambda said, at=at: np.mean([m[at].sum() for m in said.maps]))
        for at, channel in enumerate(maxima)
    ]
    for at, what in enumerate(("all channels", "without the first ones", "without the last ones")):
        rows += [
            shown("dropout", f"{name}, {what}", lambda said, row=row, at=at: said.logits[row, at])
            for row, name in enumerate(names)
        ]
    return tuple(rows)

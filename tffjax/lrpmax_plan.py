"""How LRP-max explains the neurons of each site: whichever of two ways is less work.

Both give the relevance that a pass of its own over the image gives:

- on **crops** (`tffjax.cone`): the relevance of a neuron is zero outside its receptive field. One batch of crops across
  images and channels runs forward up to the site and back. Squeeze-excite gates, which look at the whole image, are
  those of a pass over the whole image.
- in **full** (`tffjax.full_pass`): neurons of one image share the forward pass and the denominators of the rules, which
  depend on activations only; the rest is mapped over their start relevances.

Which channel and which position is data, never part of a compiled program: there is one program for each site that is
explained on crops (and one for few crops), and one for all the others.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from tffjax.compile.placement import for_each_device
from tffjax.kernels.choice import on_cpu
from tffjax.kernels.convolution import Pair
from tffjax.lrp.composites import Composite
from tffjax.lrp.prepare import resolve
from tffjax.nn.graph import Layer, layers_of
from tffjax.nn.model import Model
from tffjax.nn.receptive_field import Cone, cones_of

_PIXELS = {True: 2**16, False: 2**22}  # of all crops of a batch, on a CPU and elsewhere: enough to keep it busy
_MOST_CROPS = 1024
_FEW = 8  # so many times smaller are the batches of what does not fill a whole one
_MOST_LANES = {True: 32, False: 16}  # in full: on a CPU one after the other, where empty ones cost nothing

# Prices in multiply-adds of a pass over whole images, measured on a CPU: of a multiply-add in all three parts of a pass
# over a crop, where convolutions are narrow; of one in the backward part of a full pass; and of compiling a layer, some
# 0.06 seconds (elsewhere a guess).
_CROP, _FULL = 5, 1.4
_COMPILING = {True: 5e9, False: 5e11}


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the neurons of some sites are explained, for images of one size.

    Attributes:
        size: of the images.
        crops: cones of the sites that are explained on crops.
        full: the sites that are explained in full passes over the image.
        lanes: how many neurons of an image share a full pass.
        pixels: how many pixels a batch of crops, or of images times the lanes that run at once, may have.
        composite: the rules.
        layers: of the network.
    """

    size: Pair
    crops: dict[str, Cone]
    full: tuple[str, ...]
    lanes: int
    pixels: int
    composite: Composite
    layers: tuple[Layer, ...]

    def crops_at_once(self, site: str) -> tuple[int, int]:
        """How many crops of a site make a batch, and how many a small one; the devices share either equally."""
        most = min(max(self.pixels // self.crops[site].field.area, 1), _MOST_CROPS)
        return for_each_device(most), for_each_device(-(-most // _FEW))

    def images_at_once(self, neurons: int) -> int:
        """How many images make a batch when so many neurons of each are explained at once; devices share it equally."""
        return for_each_device(max(self.pixels // (math.prod(self.size) * neurons), 1))


def plan(
    model: Model,
    size: Pair,
    neurons: Mapping[str, int | float],
    images: int,
    composite: str | Composite | None = None,
) -> Plan:
    """Choose for every site how its neurons are explained.

    Args:
        model: the network.
        size: height and width of the images.
        neurons: site -> how many of its neurons are explained in an image, on average over the images that have any.
        images: how many of these images there are in all: each site on crops has a program to compile.
        composite: the rules. Where gates receive relevance, sites behind a gate see the whole image.
    """
    composite, _ = resolve(model, composite)
    hold_gates = composite.gate == "identity"
    cones = cones_of(model, *size, hold_gates)
    crops = on_crops(cones, neurons, images)
    full = tuple(site for site in neurons if site not in crops)
    lanes = _MOST_LANES[on_cpu()]
    if not on_cpu():
        lanes = _even_parts(sum(neurons[site] for site in full), lanes)
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.result_type(*jax.tree.leaves(model.variables)))
    return Plan(
        size=size,
        crops={site: cones[site] for site in crops},
        full=full,
        lanes=lanes,
        pixels=_PIXELS[on_cpu()],
        composite=composite,
        layers=layers_of(model, image),
    )


def _even_parts(count: int | float, most: int) -> int:
    """The size of equal parts of `count`, of which none is larger than `most` by much."""
    return max(round(count / max(math.ceil(count / most), 1)), 1)


def on_crops(cones: Mapping[str, Cone | None], neurons: Mapping[str, int | float], images: int) -> tuple[str, ...]:
    """The sites that are explained on crops, in the order of `neurons`; the others go in full.

    A pass has three parts that cost about the same: forward, denominators, backward. A crop has them all; in full only
    the backward part is a neuron's own, the others are shared by all of an image and run up to the last of the sites.
    So the sites with the largest cones are taken together, in full, as long as that saves work. Programs have their
    price too: full passes need one, crops one for each site.
    """
    order = sorted((site for site in neurons if cones[site]), key=lambda site: (cones[site].work, site))
    compiling = _COMPILING[on_cpu()] / images

    def cost(crops: int) -> float:
        near, far = order[:crops], order[crops:]
        whole = max((cones[site].work_in_full for site in far), default=0)
        count = sum(neurons[site] for site in far)
        shared = 2 * min(count, 1) * whole  # at most 1: the chance that an image has any of them
        price = shared + count * _FULL * whole + compiling * max((len(cones[site].parts) for site in far), default=0)
        return price + sum(
            _CROP * neurons[site] * cones[site].work + compiling * len(cones[site].parts) for site in near
        )

    near = order[: min(range(len(order) + 1), key=cost)]
    return tuple(site for site in neurons if site in near)

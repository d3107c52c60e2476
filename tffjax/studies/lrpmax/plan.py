"""How LRP-max explains the neurons of each site: whichever of two ways costs less.

Both give the relevance that a pass of its own over the image gives: on crops, as it is zero outside of the receptive
field (squeeze-excite gates are those of the whole image), or in full passes that the neurons of an image share. Which
channel and which position is data, never part of a compiled program: there is one program for each site that is
explained on crops, and one for all the others.
"""

import dataclasses
import math
from collections.abc import Mapping

from tffjax.compile.placement import for_each_device
from tffjax.kernels.choice import on_cpu
from tffjax.kernels.convolution import Pair
from tffjax.lrp.composites import Composite
from tffjax.lrp.prepare import resolve
from tffjax.nn.graph import Layer, image_of, layers_of
from tffjax.nn.model import Model
from tffjax.nn.receptive_field import ReceptiveField, receptive_fields

# Prices in multiply-adds of a backward pass over whole images, measured on a CPU: of one of a crop, which is counted
# once and runs forward, for the denominators and back, on narrow convolutions; and of compiling a layer, some 0.06
# seconds (elsewhere a guess).
_CROP = 3.6
_COMPILING = {True: 3.5e9, False: 3.5e11}

# A batch of crops is filled up with copies, and seldom are there more neurons of a site than that at a time.
_CROPS = 128


@dataclasses.dataclass(frozen=True)
class Ways:
    """How the neurons of some sites are explained, for images of one size.

    Attributes:
        size: of the images.
        crops: receptive fields of the sites that are explained on crops.
        full: the sites that are explained in full passes over the image.
        lanes: how many neurons of an image share a full pass.
        one_by_one: lanes run one after the other, and empty ones cost nothing; else all at once.
        pixels: how many a batch of crops, or of images times the lanes that run at once, may have.
        composite: the rules.
        layers: of the network.
    """

    size: Pair
    crops: dict[str, ReceptiveField]
    full: tuple[str, ...]
    lanes: int
    one_by_one: bool
    pixels: int
    composite: Composite
    layers: tuple[Layer, ...]

    def at_once(self, site: str | None = None) -> int:
        """How many crops of a site, or images of full passes, make a batch; the devices share it equally."""
        if site:
            return for_each_device(min(max(self.pixels // self.crops[site].window.area, 1), _CROPS))
        lanes = 1 if self.one_by_one else self.lanes
        return for_each_device(max(self.pixels // (math.prod(self.size) * lanes), 1))


def plan(
    model: Model,
    size: Pair,
    neurons: Mapping[str, int | float],
    images: int,
    composite: str | Composite | None = None,
    cpu: bool | None = None,
) -> Ways:
    """Choose for every site the way that costs less.

    On crops, an image pays for the work of its neurons and its part of compiling the site's program. In full, each
    neuron has a backward pass to the last of all sites, whose forward pass and program are there for the others anyway.

    Args:
        model: the network.
        size: height and width of the images.
        neurons: site -> how many of its neurons are explained in an image, on average over the images that have any.
        images: how many of these images there are in all: each site on crops has a program to compile.
        composite: the rules. Where gates receive relevance, sites behind a gate see the whole image.
        cpu: plan for a CPU; by default as JAX's backend is one.
    """
    composite, _ = resolve(model, composite)
    cpu = on_cpu() if cpu is None else cpu
    fields = receptive_fields(model, *size, hold_gates=composite.gate == "identity")
    whole = max((fields[site].work_in_full for site in neurons if fields[site]), default=0)
    crops = {
        site: field
        for site, count in neurons.items()
        for field in [fields[site]]
        if field and _CROP * count * field.work + _COMPILING[cpu] / images * len(field.crops) < count * whole
    }
    full, layers = tuple(site for site in neurons if site not in crops), layers_of(model, image_of(model, size))
    return Ways(size, crops, full, 32 if cpu else 8, cpu, 2**14 if cpu else 2**22, composite, layers)

"""Which operations are computed in another way than XLA's own: one object, chosen by the backend.

Every way is an exact equivalent. What a backend does badly differs: XLA's CPU backend is slow on depthwise convolutions
(a 3x3 one takes up to 60 times what it must), on 1x1 convolutions, on transposes of strided ones and on the gradient of
maximum pools. On GPUs, cuDNN's 1x1 convolutions in float32 take up to twice as long as cuBLAS's products, its depthwise
ones depend on how tuning went, and its 3x3 ones may leave rounding noise where all contributions are zero (all of it
seen on an H200).
"""

import dataclasses

import jax

from tffjax.kernels.precision import PRECISIONS


@dataclasses.dataclass(frozen=True)
class Kernels:
    """The choice; what is False is XLA's own way.

    Attributes:
        pointwise: in these precisions 1x1 convolutions, their transposes and gradients are matrix products.
        depthwise: depthwise convolutions and their transposes are shifted multiply-adds.
        depthwise_gradient: the gradient of a depthwise convolution's kernel is summed image by image.
        winograd: values and transposes of wide 3x3 convolutions are Winograd's (`tffjax.kernels.winograd`).
        phases: transposes of strided convolutions are a convolution for each phase (`tffjax.kernels.transpose`).
        stem: where the input has few channels, all phases are the channels of one convolution.
        spread: other transposes are convolutions of an output with zeros between its rows and columns. XLA's own of
            grouped and dilated convolutions aborts the process for some shapes (CPU, jaxlib 0.10).
        max_pool: the gradient of a maximum pool compares the taps of its windows.
        patches: in these precisions a dot of patches where an output must be exactly zero if all contributions to it
            are.
    """

    pointwise: tuple[str, ...] = ()
    depthwise: bool = False
    depthwise_gradient: bool = False
    winograd: bool = False
    phases: bool = False
    stem: bool = False
    spread: bool = False
    max_pool: bool = False
    patches: tuple[str, ...] = ()


XLA = Kernels()
CPU = Kernels(
    pointwise=PRECISIONS,
    depthwise=True,
    depthwise_gradient=True,
    winograd=True,
    phases=True,
    stem=True,
    spread=True,
    max_pool=True,
)
GPU = Kernels(pointwise=("float32",), depthwise=True, stem=True, max_pool=True, patches=("float32",))


def kernels_of(backend: str | None = None) -> Kernels:
    """The choice for a JAX backend, by default the one that JAX uses."""
    return {"cpu": CPU, "gpu": GPU}.get(backend or jax.default_backend(), XLA)


def on_cpu() -> bool:
    """Whether functions traced now will run on a CPU."""
    return jax.default_backend() == "cpu"

"""Logits of other packages' own networks, on seeded weights and images, for tests/test_originals.py.

    pip install torch torchvision timm efficientnet_pytorch     in an environment of its own
    python scripts/original_logits.py tests/original_logits.json

Weights are drawn key by key from the names and shapes alone (`weights`), so that the test makes the same ones without
these packages. Networks without a package of their own (no down-sampling, v1) are torchvision's with other strides.
"""

import argparse
import functools
import json
import math
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

SIZES = ((200, 200), (224, 224), (250, 333))


class Case(NamedTuple):
    """A network of a package: ours by name, the preset and options of its graph, and whose key names it has."""

    name: str
    architecture: str
    convention: str
    graph: str
    options: dict


CASES = (
    Case("torchvision resnet18", "resnet18", "torchvision", "torchvision", {}),
    Case("torchvision resnet101", "resnet101", "torchvision", "torchvision", {}),
    Case("torchvision resnet50 dilated 4", "resnet50", "torchvision", "torchvision", {"dilated_stages": [4]}),
    Case("torchvision resnet50 dilated 3,4", "resnet50", "torchvision", "torchvision", {"dilated_stages": [3, 4]}),
    Case("resnet50 without down-sampling", "resnet50", "torchvision", "grip-nodown", {}),
    Case("resnet50 v1", "resnet50", "torchvision", "resnet-v1", {}),
    Case("resnet50 ceil", "resnet50", "torchvision", "torchvision", {"ceil_mode": True}),
    Case("resnet50 ceil, unpadded", "resnet50", "torchvision", "resnet-v1", {"ceil_mode": True, "pool_padding": 0}),
    Case("timm resnet50", "resnet50", "torchvision", "timm", {}),
    Case("torchvision efficientnet_b0", "efficientnet_b0", "torchvision", "torchvision", {}),
    Case("torchvision efficientnet_b1", "efficientnet_b1", "torchvision", "torchvision", {}),
    Case("torchvision efficientnet_b7", "efficientnet_b7", "torchvision", "torchvision", {}),
    Case("timm efficientnet_b0", "efficientnet_b0", "timm", "timm", {}),
    Case("timm tf_efficientnet_b0", "efficientnet_b0", "timm", "timm-tf", {}),
    Case("timm tf_efficientnet_b7", "efficientnet_b7", "timm", "timm-tf", {}),
    Case("efficientnet_pytorch b0", "efficientnet_b0", "efficientnet_pytorch", "efficientnet-pytorch-224", {}),
    Case("efficientnet_pytorch b0 dynamic", "efficientnet_b0", "efficientnet_pytorch", "efficientnet-pytorch", {}),
    Case(
        "efficientnet_pytorch b1", "efficientnet_b1", "efficientnet_pytorch", "efficientnet-pytorch", {"padding": 240}
    ),
    Case(
        "efficientnet_pytorch b7", "efficientnet_b7", "efficientnet_pytorch", "efficientnet-pytorch", {"padding": 600}
    ),
)


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Random weights by name and shape, such that activations keep their size; float32, counters are int64 zeros."""
    drawn = {}
    for key, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        match key.rpartition(".")[2]:
            case "num_batches_tracked":
                value = np.zeros((), np.int64)
            case "running_var":
                value = rng.uniform(0.8, 1.2, shape)
            case "running_mean" | "bias":
                value = 0.1 * rng.standard_normal(shape)
            case _ if len(shape) > 1:
                gain = math.sqrt(2) if len(shape) > 2 else 20  # logits of some units, in which graphs differ clearly
                value = gain * rng.standard_normal(shape) / math.sqrt(np.prod(shape[1:]))
            case _:
                value = rng.uniform(0.4, 0.9, shape)
        drawn[key] = value.astype(np.int64 if not shape else np.float32)
    return drawn


def image(height: int, width: int) -> np.ndarray:
    """A smooth picture with noise, normalized as ImageNet's, (1, height, width, 3), float32."""
    rng = np.random.default_rng(height)
    y, x = np.mgrid[:height, :width] / 40
    smooth = np.stack([np.sin(x + c) * np.cos(y - c) for c in range(3)], axis=2)
    return (smooth + 0.3 * rng.standard_normal((height, width, 3)))[None].astype(np.float32)


def original(case: Case):
    """The package's own network."""
    package, _, rest = case.name.partition(" ")
    if package == "timm":
        stand_in_for_operators()
        import timm

        return timm.create_model(rest, num_classes=1)
    if package == "efficientnet_pytorch":
        from efficientnet_pytorch import EfficientNet

        name = case.architecture.replace("_", "-")
        return EfficientNet.from_name(name, num_classes=1, **({"image_size": None} if "dynamic" in rest else {}))
    models = _torchvision()
    dilated = [stage in case.options.get("dilated_stages", ()) for stage in (2, 3, 4)]
    more = {"replace_stride_with_dilation": dilated} if any(dilated) else {}
    net = getattr(models, case.architecture)(num_classes=1, **more)
    if case.graph == "grip-nodown":
        net.conv1.stride, net.maxpool.stride = (1, 1), 1
    if case.graph == "resnet-v1":
        for stage in (net.layer2, net.layer3, net.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    net_pool = getattr(net, "maxpool", None)
    if case.options.get("ceil_mode"):
        net_pool.ceil_mode, net_pool.padding = True, case.options.get("pool_padding", 1)
    return net


def _torchvision():
    stand_in_for_operators()
    from torchvision import models

    return models


@functools.cache
def stand_in_for_operators() -> None:
    """Where torchvision was built for another PyTorch, its own operators are missing, of which no network needs any."""
    import torch

    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")


def compute(make: Callable[[Case], object] = original) -> dict[str, list[float]]:
    """Logits of every case at every size."""
    import torch

    found = {}
    for case in CASES:
        net = make(case).eval()
        state = weights({key: tuple(tensor.shape) for key, tensor in net.state_dict().items()})
        net.load_state_dict({key: torch.tensor(array) for key, array in state.items()}, strict=True)
        with torch.no_grad():
            found[case.name] = [net(torch.tensor(image(*size)).permute(0, 3, 1, 2)).item() for size in SIZES]
        print(case.name, found[case.name], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    out.write_text(json.dumps(compute(), indent=1) + "\n")


if __name__ == "__main__":
    main()

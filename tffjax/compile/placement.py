"""Batches spread over the devices of this process, the same weights on each of them.

A pass over a batch that is spread runs on all of the devices at once: XLA divides the work as the images are divided.
"""

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def batch_sharding(batch_size: int) -> NamedSharding | None:
    """How a batch is spread over all local devices along its first axis; None leaves it whole on the default one.

    It stays whole where there is one device, or where the number of devices does not divide the batch size.
    """
    devices = jax.local_devices()
    if len(devices) == 1 or batch_size % len(devices):
        return None
    return NamedSharding(Mesh(devices, ("batch",)), PartitionSpec("batch"))


def for_each_device(count: int) -> int:
    """The next multiple of the number of devices of this process: a batch size that spreads over all of them."""
    devices = len(jax.local_devices())
    return -(-count // devices) * devices


def put(batch: Any) -> Any:
    """Arrays (n, ...), or a tree of them, placed as `batch_sharding` says for n."""
    return jax.device_put(batch, batch_sharding(len(jax.tree.leaves(batch)[0])))


def put_model(model: Any, batch_size: int) -> Any:
    """The model placed for batches of this size: a copy on every device that gets a part, so that no call copies it."""
    sharding = batch_sharding(batch_size)
    if sharding is None:
        return jax.device_put(model)
    everywhere = NamedSharding(sharding.mesh, PartitionSpec())
    # What is placed already stays the very same array, by which `tffjax.compile.passes` knows it.
    return jax.tree.map(
        lambda a: a if getattr(a, "sharding", None) == everywhere else jax.device_put(a, everywhere), model
    )

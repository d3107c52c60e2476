"""Places near to a jump, counted by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from small import noise, small_model

from tffjax.kernels.convolution import Geometry
from tffjax.lrp import near_jumps
from tffjax.nn import Conv, Dense, Model, Plain, layers_of, no_tap


class Jumpy(nn.Module):
    """A max pool, a ReLU and a sum on an image as it is: the convolution is the identity."""

    @nn.compact
    def __call__(self, x, ops=None, tap=no_tap):
        ops = ops or Plain()
        y = Conv(1, 1, name="same")(x, ops, tap)
        z = ops.max_pool(y, (2, 2), Geometry(stride=(2, 2)), "pool")
        z = ops.add(ops.relu(z, "relu"), ops.activation(z, jnp.negative, "negative"), "sum")
        return Dense(1, name="head")(ops.mean_pool(z, "mean"), ops)


def test_by_hand():
    image = np.array([[1, 1, 2, 1], [0, 0, 1, 1], [-1, -1, 0, 0], [-1, -1, 0, 0]], np.float32)
    image = jnp.asarray(image).reshape(1, 4, 4, 1)
    module = Jumpy()
    variables = jax.tree.map(jnp.ones_like, module.init(jax.random.key(0), image))
    variables["params"]["same"]["bias"] = jnp.zeros(1)
    found = {near.layer: (near.kind, float(near.shares[0])) for near in near_jumps(Model(module, variables), image)}
    # windows: 1 twice; 2 once; -1, which no relevance reaches; zeros. Sums: x + -x, but for -1, where it is 0 + 1
    assert found == {"pool": ("max_pool", 1 / 4), "relu": ("activation", 0.0), "sum": ("add", 2 / 4)}


def test_all_images_of_a_network_and_all_its_layers():
    model, images = small_model(jnp.float32), noise(16, dtype=jnp.float32)
    found = near_jumps(model, images)
    names = [layer.name for layer in layers_of(model, images)]
    assert [near.layer for near in found] == [name for name in names if name in {near.layer for near in found}]
    assert all(near.shares.shape == (len(images),) for near in found)
    assert max(float(near.shares.max()) for near in near_jumps(model, images, tolerance=1e-12)) == 0

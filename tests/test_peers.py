"""`scripts/peers.py`: every composite that zennit can express gives the same relevance."""

import importlib.util
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import peers
import pytest
import tolerances
from gpu.contenders import stand_in_for_torchvision

from tffjax.lrp import COMPOSITES, relevance, rule, rules

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("zennit") is None, reason="zennit is not here")
def test_the_small_networks_beside_zennit():
    with warnings.catch_warnings(), jax.numpy_dtype_promotion("standard"):  # as in the script
        warnings.simplefilter("ignore")
        stand_in_for_torchvision()
        columns = dict(peers.compared(small=True))
    found = {f"{title}: {name}": off for title, column in columns.items() for name, off in column.items()}
    assert sum(off is not None for off in found.values()) >= 30
    assert max(off for off in found.values() if off is not None) < tolerances.GOLDEN_F64_RELEVANCE, found


def test_gamma_does_not_explode_on_a_residual_network():
    """The trap: sums hand relevance to negative outputs, where favoring positive contributions may give almost zero."""
    network = peers.small_network("residual", peers.Residual(), peers.TorchResidual, "stem")
    composite = COMPOSITES["epsilon-gamma-box"]
    found = relevance(network.model, jnp.asarray(network.images), target=0, composite=composite).input
    plus = relevance(network.model, jnp.asarray(network.images), target=0, composite="epsilon-plus").input
    assert np.abs(found).max() < np.abs(plus).max()  # 0.006 and 0.04; without the branch 0.17


def test_every_rule_has_its_constants_translated():
    assert peers.constants_of(rule(rules.alpha_beta, alpha=1.0, beta=0.0)) == {
        "alpha": 1.0,
        "beta": 0.0,
        "bias": False,
        "epsilon": 0.0,
    }

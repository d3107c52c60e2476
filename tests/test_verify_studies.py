"""`verify --studies`: FF-RS, LRP-max and dropout of the PyTorch twin beside ours, and what it takes to differ."""

import jax
import jax.numpy as jnp
import numpy as np
import original_logits
import pytest
import torch
from tffjax.conversion import names, twin, verify_studies
from tffjax.conversion.variables import to_flax

from tffjax.nn import GraphOptions, Model, module_of
from tffjax.nn.card import Card


def networks(architecture: str, graph: GraphOptions, outputs: int) -> tuple[Model, twin.Twin]:
    shapes = names.tensor_shapes(architecture, names.conventions_of(architecture)[0], outputs)
    variables, _ = to_flax(original_logits.weights(shapes))
    card = Card(architecture, outputs, graph)
    model = Model(module_of(card), jax.tree.map(jnp.asarray, variables), card)
    return model, twin.twin_from_variables(variables, architecture, graph)


def repeated(image: np.ndarray) -> np.ndarray:
    """With a uniform half, where the largest activation of a channel is at many places."""
    image = image.copy()
    image[:, : image.shape[1] // 2] = 0.5
    return image


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "graph", "outputs"),
    [("resnet18", GraphOptions(stem_stride=1), 1), ("efficientnet_b0", GraphOptions("same", 1e-3), 3)],
)
def test_studies_say_the_same_and_an_altered_weight_is_seen(architecture, graph, outputs):
    model, net = networks(architecture, graph, outputs)
    images = [repeated(original_logits.image(33, 47))]
    said = verify_studies.verify_studies(model, net, images, ["a"])
    assert all(difference.ok for difference in said.differences), said.differences
    assert [d.dtype for d in said.differences] == 4 * ["float32"] + 4 * ["float64"]
    assert {row.study for row in said.shown} == {"FF-RS", "LRP-max", "dropout"}
    for row in said.shown:
        np.testing.assert_allclose(row.values[2], row.values[3], rtol=1e-8)
    with torch.no_grad():  # of the head: FF-RS and logits see it, the largest activations do not
        next(module for module in net.modules() if isinstance(module, torch.nn.Linear)).weight[:, 0] += 0.5
    said = verify_studies.verify_studies(model, net, images, ["a"])
    wrong = {difference.what for difference in said.differences if not difference.ok and difference.dtype == "float64"}
    assert wrong == {"shares of all channels", "logits"}


def test_nan_is_no_agreement():
    assert not verify_studies.StudyDifference("dropout", "logits", "float64", float("nan")).ok

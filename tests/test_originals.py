"""Networks of other packages: torchvision, timm, efficientnet_pytorch, against logits that they gave themselves.

`scripts/original_logits.py` wrote the logits, with these packages, in an environment of its own.
"""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import original_logits
import pytest
import tolerances
import torch
from tffjax.conversion import graphs, names, twin, twin_lrp
from tffjax.conversion.variables import to_flax

from tffjax.lrp.explain import relevance
from tffjax.nn import GraphOptions, Model, module_of
from tffjax.nn.card import Card, Normalization

STORED = json.loads((Path(__file__).parent / "original_logits.json").read_text())
FAST = ("efficientnet_pytorch b0", (200, 200))
CASES = [
    pytest.param(
        case, size, id=f"{case.name}-{size[0]}x{size[1]}", marks=() if (case.name, size) == FAST else pytest.mark.slow
    )
    for case in original_logits.CASES
    for size in original_logits.SIZES
]
run = jax.jit(lambda model, images: model(images))


def graph_of(case: original_logits.Case) -> GraphOptions:
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in case.options.items()}
    return dataclasses.replace(graphs.preset(case.graph, case.architecture), **options)


def model_of(case: original_logits.Case) -> Model:
    shapes = names.tensor_shapes(case.architecture, case.convention, 1)
    variables, facts = to_flax(original_logits.weights(shapes))
    assert facts[:2] == (case.architecture, case.convention)
    card = Card(case.architecture, 1, graph_of(case))
    return Model(module_of(card), jax.tree.map(jnp.asarray, variables), card)


def test_every_case_is_stored():
    assert list(STORED) == [case.name for case in original_logits.CASES]


def stored(case: original_logits.Case, size: tuple[int, int]) -> float:
    return STORED[case.name][original_logits.SIZES.index(size)]


@pytest.mark.extended
@pytest.mark.parametrize(("case", "size"), CASES)
def test_logits_are_those_of_the_package(case, size):
    found = np.asarray(run(model_of(case), original_logits.image(*size)))[0, 0]
    assert abs(found - stored(case, size)) <= tolerances.ORIGINALS


@pytest.mark.parametrize(("case", "size"), CASES)
def test_the_twin_computes_the_same_graph(case, size):
    net = twin.twin_from_variables(model_of(case).variables, case.architecture, graph_of(case))
    with torch.no_grad():
        found = net(torch.tensor(original_logits.image(*size)).permute(0, 3, 1, 2)).item()
    assert abs(found - stored(case, size)) <= tolerances.ORIGINALS


@pytest.mark.extended
def test_a_wrong_graph_is_found():
    # the tolerance tells the graphs apart: the stored logits are those of one of them only
    case = next(case for case in original_logits.CASES if case.name == "efficientnet_pytorch b0")
    model = model_of(case)
    card = dataclasses.replace(model.card, graph=dataclasses.replace(model.card.graph, padding="same"))
    other = Model(module_of(card), model.variables, card)
    found = np.asarray(run(other, original_logits.image(200, 200)))[0, 0]
    assert abs(found - stored(case, (200, 200))) > 10 * tolerances.ORIGINALS


EXPLAINED = (  # other strides, dilation, overhanging pools, fixed padding; other depths
    ("resnet18", GraphOptions(stem_stride=1, pool_stride=1)),
    ("resnet18", GraphOptions(ceil_mode=True, pool_padding=0)),
    ("resnet50", GraphOptions(stride_in="1x1", dilated_stages=(3, 4), ceil_mode=True)),
    ("efficientnet_b0", GraphOptions(224, 1e-3)),
    ("resnet18", GraphOptions()),
    ("resnet101", GraphOptions()),
    ("efficientnet_b1", GraphOptions("same", 1e-3)),
    ("efficientnet_b7", GraphOptions("symmetric", 1e-3)),
)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("architecture", "graph"),
    [
        pytest.param(*case, marks=() if case is EXPLAINED[1] else pytest.mark.slow, id=f"{case[0]}-{case[1]}")
        for case in EXPLAINED
    ],
)
def test_relevance_equals_the_twins(architecture, graph, x64):
    shapes = names.tensor_shapes(architecture, names.conventions_of(architecture)[0], 1)
    variables, _ = to_flax(original_logits.weights(shapes))
    card = Card(architecture, 1, graph)
    model = Model(module_of(card), jax.tree.map(jnp.asarray, variables), card).astype(jnp.float64)
    image = original_logits.image(50, 43).astype(np.float64)
    ours = relevance(model, jnp.asarray(image), sites=False)
    net = twin.twin_from_variables(variables, architecture, graph).double()
    x = torch.tensor(image).permute(0, 3, 1, 2)
    _, theirs, _ = twin_lrp.explain(net, x, "beta0", bounds=Normalization().bounds)
    theirs = theirs.permute(0, 2, 3, 1).numpy()
    assert np.linalg.norm(ours.input - theirs) <= tolerances.F64_TWIN_RELEVANCE * np.linalg.norm(theirs)

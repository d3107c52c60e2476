"""PyTorch checkpoints as models with a card: which graph, which output, from what file."""

import dataclasses
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from tffjax.conversion import checkpoint, graphs
from tffjax.conversion.variables import Facts, to_flax

from tffjax.errors import InputError
from tffjax.files import sha256_of
from tffjax.nn import Model, module_of
from tffjax.nn.card import NORMALIZATIONS, Card
from tffjax.nn.graph_options import GraphOptions
from tffjax.nn.networks import network_of


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a user says of a checkpoint that the file does not.

    Attributes:
        graph: name of a preset (`tffjax.conversion.graphs`); None leaves what is assumed.
        options: graph options that differ from that, by name.
        normalization: name of the input's normalization.
        high_means: what a high logit of a one-output network means.
        fake_output: which of two outputs means fake; None if the file has none such, or if they stay two classes.
        under: name of the state dict in the file, where there are several.
        prefix: of the keys, where there are several networks.
    """

    graph: str | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    normalization: str = "imagenet"
    high_means: Literal["fake", "real"] = "fake"
    fake_output: Literal[0, 1] | None = None
    under: str | None = None
    prefix: str | None = None


class Converted(NamedTuple):
    """A model, and what its file said."""

    model: Model
    facts: Facts


def convert_file(source: Path, asked: Asked) -> Converted:
    """Read a PyTorch checkpoint as a model with its card.

    Raises:
        InputError: as `tffjax.conversion.checkpoint.load_file` and `convert_payload`.
    """
    return convert_payload(checkpoint.load_file(source), source, asked)


def convert_payload(payload: Any, source: Path, asked: Asked) -> Converted:
    """What `tffjax.conversion.checkpoint.load_file` gave of a file, as a model with its card.

    Raises:
        InputError: as `tffjax.conversion.checkpoint.state_dict_in`, `to_flax`, `graph_of`; or there are not two outputs
            for `fake_output` to choose from.
    """
    variables, facts = to_flax(checkpoint.state_dict_in(payload, source, asked.under), asked.prefix)
    graph, graph_source = graph_of(facts, asked)
    num_outputs = facts.num_outputs
    if asked.fake_output is not None:
        if num_outputs != 2:
            raise InputError(f"--fake-output chooses one of two outputs; this network has {num_outputs}")
        variables, num_outputs = one_logit(variables, network_of(facts.architecture).head, asked.fake_output), 1
    card = Card(
        facts.architecture,
        num_outputs,
        graph,
        NORMALIZATIONS[asked.normalization],
        asked.high_means,
        source=source.name,
        source_sha256=sha256_of(source),
        graph_source=graph_source,
        fake_output=asked.fake_output,
    )
    return Converted(Model(module_of(card), jax.tree.map(jnp.asarray, variables), card), facts)


def graph_of(facts: Facts, asked: Asked) -> tuple[GraphOptions, Literal["keys", "assumed", "chosen"]]:
    """The graph that a user asks for, or else the one that the keys mean, and how it is known.

    Raises:
        InputError: there is no such preset for this network.
    """
    fitting = graphs.candidates(facts.architecture, facts.convention)
    named = graphs.preset(asked.graph, facts.architecture) if asked.graph else fitting[0].options
    if asked.graph or asked.options:
        return dataclasses.replace(named, **asked.options), "chosen"
    return named, "assumed" if len(fitting) > 1 else "keys"


def one_logit(variables: dict[str, Any], head: str, fake: int) -> dict[str, Any]:
    """Variables of the network whose one logit is fake minus real, of two; its sigmoid is their softmax."""
    layer = variables["params"][head]
    difference = {name: layer[name][..., [fake]] - layer[name][..., [1 - fake]] for name in ("kernel", "bias")}
    return {**variables, "params": {**variables["params"], head: difference}}


def choices_text(facts: Facts) -> str:
    """The graphs that the keys allow, for people."""
    return "; ".join(
        f"--graph {candidate.name} ({candidate.about})"
        for candidate in graphs.candidates(facts.architecture, facts.convention)
    )

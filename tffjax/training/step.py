"""One step of training a detector: where its weights come from, the loss, batch norm statistics, Adam (SPEC 8).

The loop over epochs is `tffjax.training.loop`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from tffjax.compile.passes import compiler_options
from tffjax.compile.placement import batch_sharding
from tffjax.errors import InputError
from tffjax.kernels.precision import Precision, check_precision
from tffjax.nn import Model, module_of, network_of
from tffjax.nn.card import Card
from tffjax.training.operations import Training

HEAD_DEVIATION = 0.02  # of the normal distribution that a new head is drawn from, as in Wang et al.

_ADAM = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a detector is trained; the defaults are those of Wang et al., CVPR 2020 (SPEC 8).

    EfficientNet-B0's drop-connect is left out.

    Attributes:
        epochs: at most so many.
        batch_size: images a step, over all devices together.
        rate: the first learning rate; `tffjax.training.schedule.Plateau` lowers it.
        patience: epochs without a rise of validation accuracy that lower the rate.
        dropout: of the pooled features, before the head.
        seed: of the order of the images, the augmentations and the dropout.
        precision: of convolutions and dots, see `tffjax.kernels.precision`; weights and batch statistics stay float32.
    """

    epochs: int = 100
    batch_size: int = 64
    rate: float = 1e-4
    patience: int = 5
    dropout: float = 0.0
    seed: int = 0
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        check_precision(self.precision)
        if self.epochs < 1 or self.patience < 1 or self.batch_size < 2:
            raise InputError("training needs at least 1 epoch, a patience of 1 and 2 images a batch")
        if self.rate <= 0 or not 0 <= self.dropout < 1 or self.seed < 0:
            raise InputError("the rate must be above 0, dropout at least 0 and below 1, the seed at least 0")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Everything that a step changes: parameters, running statistics, Adam's moments, number of steps done."""

    params: Any
    batch_stats: Any
    adam: Any
    step: Any


def from_scratch(architecture: str, seed: int = 0) -> Model:
    """A detector with random weights.

    Kernels are normal with variance 2 / fan-out (He et al. 2015), batch norms the identity, the head as in
    `as_detector`. An output of a depthwise kernel has the fan-out of its own channel, kh * kw, as in TensorFlow's
    EfficientNet.

    Raises:
        InputError: there is no such network.
    """
    network = network_of(architecture)
    card = Card(architecture, 1, network.conventions[0], source=f"trained by tffjax from scratch, seed {seed}")
    module = module_of(card)
    image = jax.ShapeDtypeStruct((1, *network.image_size, 3), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), image)
    rng = np.random.default_rng([seed, 1])

    def draw(path: Any, leaf: Any) -> jax.Array:
        name = path[-1].key
        if name != "kernel":
            return jnp.full(leaf.shape, float(name in ("scale", "var")), jnp.float32)
        depthwise = leaf.ndim == 4 and leaf.shape[2] == 1
        fan_out = np.prod(leaf.shape[:-2]) * (1 if depthwise else leaf.shape[-1])
        return jnp.asarray(np.sqrt(2 / fan_out) * rng.standard_normal(leaf.shape), jnp.float32)

    return _with_head(Model(module, jax.tree_util.tree_map_with_path(draw, shapes), card), seed)


def as_detector(model: Model, seed: int = 0) -> Model:
    """The network to start training from: with one output, a high one meaning fake, and a card that says so.

    A head with more outputs (ImageNet) is replaced: its kernel is normal with a deviation of 0.02, its bias 0. A
    detector keeps its own; if its high logit means real, it is negated.

    Raises:
        InputError: a model without a card, or folded.
    """
    if model.card is None or getattr(model.module, "batch_norm", "statistics") != "statistics":
        raise InputError("training starts from a checkpoint as converted or trained, batch norms not folded")
    card, head = model.card, network_of(model.card).head
    source = f"trained by tffjax from {card.source or card.weights_sha256[:12] or 'a model in memory'}"
    new_card = dataclasses.replace(
        card, num_outputs=1, high_means="fake", source=source, source_sha256="", weights_sha256=""
    )
    if card.num_outputs != 1:
        return _with_head(Model(module_of(new_card), model.variables, new_card), seed)
    variables = model.variables
    if card.high_means == "real":
        negated = jax.tree.map(lambda a: -a, variables["params"][head])
        variables = {**variables, "params": {**variables["params"], head: negated}}
    return Model(model.module, variables, new_card)


def _with_head(model: Model, seed: int) -> Model:
    head = network_of(model.card).head
    params = model.variables["params"]
    shape = (params[head]["kernel"].shape[0], 1)
    kernel = HEAD_DEVIATION * np.random.default_rng([seed, 0]).standard_normal(shape)
    new = {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.zeros(1, jnp.float32)}
    return dataclasses.replace(model, variables={**model.variables, "params": {**params, head: new}})


def start(model: Model) -> State:
    """The state before the first step, in arrays of its own: a step may overwrite those that it is given."""
    variables = jax.tree.map(jnp.array, model.variables)
    params = variables["params"]
    return State(params, variables.get("batch_stats", {}), _ADAM.init(params), jnp.zeros((), jnp.int32))


def trained(model: Model, state: State) -> Model:
    """The model with the weights of a state."""
    statistics = {"batch_stats": state.batch_stats} if state.batch_stats else {}  # a network may have no batch norms
    return dataclasses.replace(model, variables={"params": state.params, **statistics})


def training_pass(
    model: Model, ops: Training, images: Float[Array, "n h w 3"], labels: Float[Array, " n"]
) -> tuple[Float[Array, ""], tuple[Float[Array, " n"], Any]]:
    """Loss, and (logits, new running statistics), of a batch under training operations.

    The loss is the mean binary cross-entropy with logits, log(1 + exp(z)) - y z for a label y of 1 (fake) or 0.
    """
    logits = model(images, ops)[:, 0]
    loss = optax.sigmoid_binary_cross_entropy(logits, labels).mean()
    statistics = jax.tree_util.tree_map_with_path(
        lambda path, _: ops.statistics[".".join(key.key for key in path[:-1])][path[-1].key],
        model.variables.get("batch_stats", {}),
    )
    return loss, (logits, statistics)


def train_step(
    model: Model,
    recipe: Recipe,
    state: State,
    images: Float[Array, "n h w 3"],
    labels: Float[Array, " n"],
    rate: Float[Array, ""],
) -> tuple[State, Float[Array, ""], Float[Array, " n"]]:
    """One step of Adam (0.9, 0.999).

    Args:
        model: what the weights of the state belong to; its own are not read.
        recipe: of the training.
        state: before the step.
        images: normalized.
        labels: 1 for fake, 0 for real.
        rate: learning rate.

    Returns:
        The state after the step, and the loss and the logits before it.
    """
    ops = Training(
        precision=recipe.precision,
        momentum=batch_norm_momentum(model.card),
        dropout=recipe.dropout,
        key=jax.random.fold_in(jax.random.key(recipe.seed), state.step),
    )

    def loss_of(params: Any) -> Any:
        return training_pass(trained(model, dataclasses.replace(state, params=params)), ops, images, labels)

    (loss, (logits, statistics)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    with jax.numpy_dtype_promotion("standard"):  # Optax takes a float to the power of an integer
        updates, adam = _ADAM.update(gradient, state.adam)
    params = jax.tree.map(lambda p, update: p - rate * update, state.params, updates)
    return State(params, statistics, adam, state.step + 1), loss, logits


def batch_norm_momentum(card: Card | None) -> float:
    """What a step keeps of the running statistics: 0.99 in `efficientnet_pytorch`'s convention, else 0.9."""
    return 0.99 if card is not None and card.graph.padding != "symmetric" else 0.9


def compile_step(model: Model, recipe: Recipe, state: State, crop: int) -> Callable[..., Any]:
    """`train_step` compiled for batches of squares: a function of (state, images, labels, rate).

    It overwrites the state that it is given.
    """
    sharding = batch_sharding(recipe.batch_size)
    images = jax.ShapeDtypeStruct((recipe.batch_size, crop, crop, 3), np.float32, sharding=sharding)
    labels = jax.ShapeDtypeStruct((recipe.batch_size,), np.float32, sharding=sharding)
    rate = jax.ShapeDtypeStruct((), np.float32)
    shell = dataclasses.replace(model, variables={})

    def step(state: State, images: jax.Array, labels: jax.Array, rate: jax.Array) -> Any:
        return train_step(shell, recipe, state, images, labels, rate)

    return jax.jit(step, donate_argnums=0).lower(state, images, labels, rate).compile(compiler_options())

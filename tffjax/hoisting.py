"""What every turn of a loop would compute from the weights alone, computed once before the loop.

XLA moves little out of a loop: nothing that grows, such as a transformed kernel, and nothing that it has fused with the
rest. So the program of a turn is split before XLA sees it.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Literal

GROWTH = 2
"""What is larger than its inputs by more than this stays in the loop: memory would pay for what is quickly made."""


def hoist(function: Callable[[Any], Any], example: Any) -> Callable[[Any], Any]:
    """A function equal to `function`, without the operations that do not depend on its argument.

    Those on closed-over arrays, the weights, are done here and now; such as have no array as their input stay.

    Args:
        function: of one tree of arrays; traced once.
        example: an argument; in `shard_map` it varies over the same axes as those to come.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(example)
    program = closed.jaxpr
    known, rest = dict(zip(program.constvars, closed.consts, strict=True)), []
    for equation in program.eqns:
        if _is_invariant(equation, known):
            _evaluate([equation], known)
        else:
            rest.append(equation)

    def turn(argument: Any) -> Any:
        values = known | dict(zip(program.invars, jax.tree.leaves(argument), strict=True))
        _evaluate(rest, values)
        return jax.tree.unflatten(jax.tree.structure(shape), _read(program.outvars, values))

    return turn


def _is_invariant(equation: Any, known: dict[Any, Any]) -> bool:
    inputs = [v for v in equation.invars if not isinstance(v, Literal)]
    if equation.effects or not inputs or not all(v in known for v in inputs):
        return False
    return sum(v.aval.size for v in equation.outvars) <= GROWTH * sum(v.aval.size for v in inputs)


def _evaluate(equations: list[Any], values: dict[Any, Any]) -> None:
    """Do the operations one after the other, as the page on custom interpreters of JAX's documentation shows it."""
    for equation in equations:
        parameters = equation.primitive.get_bind_params(equation.params)
        functions, parameters = parameters if isinstance(parameters, tuple) else ((), parameters)  # until JAX 0.9
        found = equation.primitive.bind(*functions, *_read(equation.invars, values), **parameters)
        values.update(zip(equation.outvars, found if equation.primitive.multiple_results else [found], strict=True))


def _read(variables: list[Any], values: dict[Any, Any]) -> list[Any]:
    return [v.val if isinstance(v, Literal) else values[v] for v in variables]

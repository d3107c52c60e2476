"""What depends on the weights alone, taken out of a pass over images.

XLA moves little out of a loop: nothing that grows, such as a transformed kernel, and nothing that it has fused with the
rest; and it cannot know that the next call comes with the same weights. So a program is parted before XLA sees it.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Literal

GROWTH = 2
"""What is larger than its inputs by more than this is made again where it is used: memory would pay for a moment."""

SMALL = 4096
"""What is smaller is made again for every call: more arrays to hand over would cost more."""

_VIEWS = ("reshape", "squeeze")  # of arrays as they lie in memory


class Split(NamedTuple):
    """A function in two parts: `rest(prepare(weights), weights, *arguments)` is the whole.

    Attributes:
        prepare: a function of the weights; returns a list of arrays.
        rest: a function of that list, the weights and the other arguments.
        keys: what the arrays of the list are, a number for each: the same number means the same operations on the
            weights of the same places, in whatever function.
    """

    prepare: Callable[[Any], list[jax.Array]]
    rest: Callable[..., Any]
    keys: tuple[int, ...]


def split(function: Callable[..., Any], weights: Any, *arguments: Any) -> Split:
    """Part a function into what depends on the weights only and the rest.

    Args:
        function: of trees of arrays; traced once.
        weights: what stays the same from call to call.
        arguments: what does not.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(weights, *arguments)
    program, constants = closed.jaxpr, dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    given = program.invars[: len(jax.tree.leaves(weights))]
    first, then = _part(program.eqns, {*constants, *given}, SMALL)
    made = {v for equation in first for v in equation.outvars}
    used = [v for v in dict.fromkeys((*_inputs(then), *program.outvars)) if not isinstance(v, Literal) and v in made]
    numbers = {v: _number(v) for v in constants} | {v: _number(place) for place, v in enumerate(given)}
    numbers = _numbered(first, numbers)

    def prepare(weights: Any) -> list[jax.Array]:
        values = constants | dict(zip(given, jax.tree.leaves(weights), strict=True))
        _evaluate(first, values)
        return [values[v] for v in used]

    def rest(prepared: list[jax.Array], weights: Any, *arguments: Any) -> Any:
        leaves = jax.tree.leaves((weights, *arguments))
        values = constants | dict(zip(used, prepared, strict=True)) | dict(zip(program.invars, leaves, strict=True))
        _evaluate(then, values)
        return jax.tree.unflatten(jax.tree.structure(shape), _read(program.outvars, values))

    return Split(prepare, rest, tuple(numbers[v] for v in used))


def hoist(function: Callable[[Any], Any], example: Any) -> Callable[[Any], Any]:
    """A function equal to `function`, without the operations that do not depend on its argument.

    Those on closed-over arrays, the weights, are done here and now; such as have no array as their input stay.

    Args:
        function: of one tree of arrays; traced once.
        example: an argument; in `shard_map` it varies over the same axes as those to come.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(example)
    program, known = closed.jaxpr, dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    first, rest = _part(program.eqns, set(known))
    _evaluate(first, known)

    def turn(argument: Any) -> Any:
        values = known | dict(zip(program.invars, jax.tree.leaves(argument), strict=True))
        _evaluate(rest, values)
        return jax.tree.unflatten(jax.tree.structure(shape), _read(program.outvars, values))

    return turn


def _part(equations: list[Any], known: set[Any], small: int = 0) -> tuple[list[Any], list[Any]]:
    """The operations on known arrays, and the others with those among the first that are better done where needed."""
    known = set(known)
    first = []
    for equation in equations:
        inputs = list(_inputs([equation]))
        if inputs and not equation.effects and known.issuperset(inputs):
            first.append(equation)
            known.update(equation.outvars)
    kept, needed = set(), set()
    for equation in reversed(first):
        size = _size(equation.outvars)
        is_cheap = equation.primitive.name in _VIEWS or size < small or size > GROWTH * _size(_inputs([equation]))
        if not (is_cheap and needed.isdisjoint(equation.outvars)):
            kept.add(id(equation))
            needed.update(_inputs([equation]))
    return [e for e in first if id(e) in kept], [e for e in equations if id(e) not in kept]


def _inputs(equations: Iterable[Any]) -> dict[Any, None]:
    """The variables that these operations read, in their order."""
    return {v: None for equation in equations for v in equation.invars if not isinstance(v, Literal)}


def _size(variables: Iterable[Any]) -> int:
    return sum(v.aval.size for v in variables)


_numbers: dict[Any, int] = {}


def _number(*what: Any) -> int:
    """The number of a value that is made like this."""
    return _numbers.setdefault(what, len(_numbers))


def _numbered(equations: list[Any], numbers: dict[Any, int]) -> dict[Any, int]:
    """The numbers of all that these operations make, from those of what they are given."""
    numbers = dict(numbers)
    for equation in equations:
        inputs = tuple(
            (v.aval.dtype, np.asarray(v.val).tobytes()) if isinstance(v, Literal) else numbers[v]
            for v in equation.invars
        )
        try:
            how = _number(equation.primitive, tuple(sorted(equation.params.items())), inputs)
        except TypeError:  # not hashable
            how = _number(equation.primitive, object())
        numbers.update((v, _number(how, index)) for index, v in enumerate(equation.outvars))
    return numbers


def _evaluate(equations: list[Any], values: dict[Any, Any]) -> None:
    """Do the operations one after the other, as the page on custom interpreters of JAX's documentation shows it."""
    for equation in equations:
        parameters = equation.primitive.get_bind_params(equation.params)
        functions, parameters = parameters if isinstance(parameters, tuple) else ((), parameters)  # until JAX 0.9
        found = equation.primitive.bind(*functions, *_read(equation.invars, values), **parameters)
        values.update(zip(equation.outvars, found if equation.primitive.multiple_results else [found], strict=True))


def _read(variables: list[Any], values: dict[Any, Any]) -> list[Any]:
    return [v.val if isinstance(v, Literal) else values[v] for v in variables]

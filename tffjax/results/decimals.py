"""How many digits of which numbers a person gets to read."""

import math
import re

import pyarrow as pa

_FRACTION = "ap|auc|eer|tpr|acc|accuracy|real|fake|probability|share|overlap|jaccard|in_top|median_probability"
_KINDS = (
    # metrics, probabilities and shares of images or channels, from 0 to 1
    (re.compile(rf"(published_)?({_FRACTION})(_.*)?"), ".4f"),
    # percent, in the wide layout of the paper's tables
    (re.compile(r".* (ap|real|fake)"), ".1f"),
    # logits, and thresholds on them
    (re.compile(r"logit|score|threshold(_.*)?"), ".4f"),
    # p-values: their size matters, not their digits
    (re.compile(r"p|p_.*"), ".3g"),
)
_OTHER = ".6g"  # relevances, activations, effects: of any size


def digits_of(column: str) -> str:
    """The format of a column's numbers, by the kind of number that its name stands for."""
    return next((spec for pattern, spec in _KINDS if pattern.fullmatch(column)), _OTHER)


def rounded(table: pa.Table) -> pa.Table:
    """The table with every float as a person reads it (`digits_of`); NaN becomes null."""
    for place, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            spec = digits_of(field.name)
            values = [_rounded(value, spec) for value in table[field.name].to_pylist()]
            table = table.set_column(place, field.name, pa.array(values, pa.float64()))
    return table


def _rounded(value: float | None, spec: str) -> float | None:
    if value is None or math.isnan(value):
        return None
    return float(format(value, spec)) + 0.0  # no -0.0

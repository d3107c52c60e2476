"""What a compiled program really computes its products in, read from its text."""

import collections
import re

_DOT = re.compile(r"= *(?:\()?(\w+)\[[^=]*? (convolution|dot|custom-call)\(")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_MATH = re.compile(r'"math_type":"(\w+)"')
_PRECISION = re.compile(r"operand_precision\\?\"?[=:][\[{]\\?\"?(\w+)")
_LIBRARIES = ("__cudnn$conv", "__cublas", "__onednn", "__cudnn$fusion")


def products(text: str) -> str:
    """Number of convolutions and dots of each kind, such as `106 cudnn f32 TF32, 2 dot f32 highest`.

    Args:
        text: of an optimized program, `jax.stages.Compiled.as_text()`.
    """
    counts: collections.Counter[str] = collections.Counter()
    for line in text.splitlines():
        found = _DOT.search(line)
        if found is None:
            continue
        dtype, operation = found.groups()
        if operation == "custom-call":
            target = _TARGET.search(line)
            if target is None or not target[1].startswith(_LIBRARIES):
                continue
            operation = target[1].strip("_").replace("$", " ")
        counts[" ".join(filter(None, (operation, dtype, _arithmetic(line))))] += 1
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common()) or "none named"


def _arithmetic(line: str) -> str:
    math_type, precision = _MATH.search(line), _PRECISION.search(line)
    words = [math_type[1].lower() if math_type else "", precision[1].lower() if precision else ""]
    return " ".join(filter(None, words))

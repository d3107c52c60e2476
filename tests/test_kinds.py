"""The kinds of files that people bring, by number: `docs/detectors.md` says what happens to each, and so it does."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tffjax.conversion import checkpoint, names
from tffjax.conversion.convert import Asked, choices_text, graph_of
from tffjax.conversion.variables import to_flax

from tffjax.errors import InputError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "detectors.md"
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (read|asked|refused): (.+) \|$", re.MULTILINE)


def state_of(architecture: str, convention: str, outputs: int = 1, prefix: str = "") -> dict[str, torch.Tensor]:
    """Ones of every shape; they take no memory."""
    shapes = names.tensor_shapes(architecture, convention, outputs)
    return {prefix + key: torch.ones(()).expand(shape) for key, shape in shapes.items()}


def renamed(state: dict[str, torch.Tensor], old: str, new: str) -> dict[str, torch.Tensor]:
    return {key.replace(old, new): tensor for key, tensor in state.items()}


RESNET = state_of("resnet50", "torchvision")
B0, TIMM, VISION = (
    state_of("efficientnet_b0", convention) for convention in ("efficientnet_pytorch", "timm", "torchvision")
)


def file(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def safetensors(folder: Path) -> Path:
    save_file({key: tensor.half().contiguous() for key, tensor in TIMM.items()}, folder / "a.safetensors")
    return folder / "a.safetensors"


def torchscript(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.pt", "w") as archive:
        archive.writestr("a/constants.pkl", "")
    return folder / "a.pt"


def pickled(folder: Path) -> Path:
    torch.save(torch.nn.Linear(1, 1), folder / "a.pth")
    return folder / "a.pth"


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(()).expand(shape)


# Number -> examples: what a file holds, or what writes one; and words of the question, the refusal or the notes.
EXAMPLES: dict[int, list[tuple[Any, str]]] = {
    1: [({"model": RESNET, "optimizer": {"state": {0: {"step": ones(1)}}}, "total_steps": 3}, "cnndetection")],
    2: [({"net": state_of("resnet50", "torchvision", prefix="module.")}, "grip-nodown")],
    3: [(RESNET, "resnet-v1")],
    4: [(TIMM, "timm-tf")],
    5: [(RESNET, "cnndetection")],
    6: [(B0, "efficientnet-pytorch-224")],
    7: [(VISION, "")],
    8: [
        ({"ema": state_of("efficientnet_b0", "torchvision", prefix="_orig_mod.backbone.")}, "_orig_mod.backbone."),
        (renamed(VISION, ".weight", ".conv.weight"), "'.conv.' taken out"),
    ],
    9: [
        (
            {"state_dict": state_of("efficientnet_b0", "torchvision", prefix="model."), "hyper_parameters": {"lr": 1}},
            "prefix 'model.' taken off",
        )
    ],
    10: [(safetensors, "timm-tf")],
    11: [(state_of("efficientnet_b0", "torchvision", outputs=2), "--fake-output")],
    12: [(renamed(VISION, "classifier.1", "last_layer"), "the head is 'last_layer'")],
    13: [({"conv1.weight": ones(64, 3, 3, 3), "layer1.0.conv1.weight": ones(64, 64, 1, 1), "fc1.weight": ones(1, 512)},
          "NPR")],
    14: [(RESNET | {"layer2.0.downsample.0.filt": ones(64, 1, 3, 3)}, "an antialiased network")],
    15: [({"weight": ones(1, 768), "bias": ones(1)}, "a linear head on CLIP's features")],
    16: [({"backbone.block1.rep.0.conv1.weight": ones(1, 1, 3, 3)}, "an Xception network")],
    17: [(torchscript, "a TorchScript program"), (pickled, "loading this pickle could run code")],
    18: [
        (file("a.pth", b"version https://git-lfs.github.com/spec/v1\n"), "a Git LFS pointer"),
        (file("a.pth", b"<!DOCTYPE html>"), "a web page"),
    ],
}  # fmt: skip


def outcome(payload: Any) -> tuple[str, str]:
    """read, asked or refused, and the words that go with it."""
    try:
        payload = checkpoint.load_file(payload) if isinstance(payload, Path) else payload
        _, facts = to_flax(checkpoint.state_dict_in(payload, "a.pth"))
    except InputError as error:
        return "refused", str(error)
    if facts.num_outputs == 2:
        return "asked", "--fake-output"
    asked = graph_of(facts, Asked())[1] == "assumed"
    return ("asked", choices_text(facts)) if asked else ("read", "; ".join(facts.notes))


def test_the_page_has_a_row_for_every_kind():
    assert [int(number) for number, *_ in ROW.findall(PAGE.read_text())] == list(EXAMPLES)


@pytest.mark.parametrize("number", EXAMPLES)
def test_kinds_of_files(number, tmp_path):
    said = {int(row[0]): row[2] for row in ROW.findall(PAGE.read_text())}
    for made, words in EXAMPLES[number]:
        what, text = outcome(made(tmp_path) if callable(made) else made)
        assert what == said[number], text
        assert words in text

"""`convert --expect`: the network that gave some outputs is found among all variants, or none is."""

import csv
from typing import NamedTuple

import numpy as np
import original_logits
import pytest
import torch
from command import done, refused, tffjax_command
from PIL import Image
from scipy.special import expit
from tffjax.conversion import expect, graphs, names, twin
from tffjax.conversion.variables import to_flax

from tffjax.data.preprocessing import Transform, normalize
from tffjax.nn import GraphOptions, checkpoint
from tffjax.nn.card import NORMALIZATIONS


class Made(NamedTuple):
    """A network that a user might have, and how its outputs are told."""

    name: str
    architecture: str
    convention: str
    graph: GraphOptions
    normalization: str = "imagenet"
    transform: Transform = Transform()
    probabilities: bool = False


MADE = (
    Made("as published", "resnet18", "torchvision", GraphOptions(), probabilities=True),
    Made("no down-sampling", "resnet18", "torchvision", GraphOptions(stem_stride=1, pool_stride=1), "unit"),
    Made("ceil", "resnet18", "torchvision", GraphOptions(ceil_mode=True, pool_padding=0), "caffe"),
    Made("v1 in BGR", "resnet50", "torchvision", GraphOptions(stride_in="1x1"), "imagenet-bgr"),
    Made("dilated", "resnet50", "torchvision", GraphOptions(dilated_stages=(4,))),
    Made("from the input", "efficientnet_b0", "efficientnet_pytorch", GraphOptions("same", 1e-3), "inception"),
    Made("fixed", "efficientnet_b0", "efficientnet_pytorch", GraphOptions(224, 1e-3)),  # at 224 it is that of the input
    Made("timm's tf", "efficientnet_b0", "timm", GraphOptions("same", 1e-3), "imagenet", Transform(256)),
)
FAST = ("as published", "from the input")


def state_of(made: Made, gain: float = 1.7) -> dict[str, np.ndarray]:
    """Random weights; gammas of EfficientNets such that the signal does not fade between the biases."""
    state = original_logits.weights(names.tensor_shapes(made.architecture, made.convention, 1))
    if made.architecture.startswith("resnet"):
        return state
    gammas = {key for key, array in state.items() if key.endswith(".weight") and array.ndim == 1}
    return {key: array * np.float32(gain) if key in gammas else array for key, array in state.items()}


def outputs_of(made: Made, images: list[np.ndarray]) -> np.ndarray:
    variables, _ = to_flax(state_of(made))
    net = twin.twin_from_variables(variables, made.architecture, made.graph)
    found = []
    for image in images:
        x = normalize(made.transform(image)[None], NORMALIZATIONS[made.normalization])
        with torch.no_grad():
            found.append(net(torch.from_numpy(x).permute(0, 3, 1, 2)).item())
    return expit(np.array(found, np.float64)) if made.probabilities else np.array(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three pictures of different sizes, none a multiple of 32."""
    folder = tmp_path_factory.mktemp("pictures")
    for height, width in ((61, 75), (70, 53), (90, 107)):
        picture = 60 * original_logits.image(height, width)[0] + 128
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / f"{height}.png")
    return folder


def write(path, folder, values, header=("file", "logit")):
    with path.open("w", newline="") as file:
        rows = ([image.name, repr(float(value))] for image, value in zip(sorted(folder.iterdir()), values, strict=True))
        csv.writer(file).writerows([header, *rows])
    return path


def pictures(folder):
    return [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]


@pytest.mark.extended
@pytest.mark.parametrize(
    "made", [pytest.param(m, id=m.name, marks=() if m.name in FAST else pytest.mark.slow) for m in MADE]
)
def test_the_network_is_found(made, folder, tmp_path):
    torch.save({k: torch.tensor(v) for k, v in state_of(made).items()}, tmp_path / "weights.pth")
    table = write(tmp_path / "logits.csv", folder, outputs_of(made, pictures(folder)))
    ended = done("convert", tmp_path / "weights.pth", tmp_path / "out", "--expect", table, "--images", folder)
    card = checkpoint.read_card(tmp_path / "out")
    assert (card.graph, card.graph_source) == (made.graph, "proven")
    assert card.normalization == NORMALIZATIONS[made.normalization]
    assert card.proof.startswith("logits.csv: 3 images, largest difference ")
    assert expect.size_text(made.transform) in card.proof
    assert "agrees" in ended.out


@pytest.mark.extended
def test_no_variant_agrees_and_nothing_is_written(folder, tmp_path):
    made = MADE[5]
    torch.save({k: torch.tensor(v) for k, v in state_of(made).items()}, tmp_path / "weights.pth")
    values = outputs_of(made, pictures(folder)) + np.array([0, 0.1, 0])
    table = write(tmp_path / "logits.csv", folder, values)
    ended = tffjax_command(
        "convert", tmp_path / "weights.pth", tmp_path / "out", "--expect", table, "--images", folder,
        "--graph", "efficientnet-pytorch",
    )  # fmt: skip
    assert ended.code == 1
    assert "none of the variants agrees with" in ended.last
    assert "the nearest is off by 0.1" in ended.last
    assert not (tmp_path / "out").exists()


@pytest.mark.extended
def test_images_that_prove_nothing_leave_the_graph_open(tmp_path):
    # at 64 pixels the padding fixed for 224 is that of the input
    made, folder = MADE[5], tmp_path / "square"
    folder.mkdir()
    picture = 60 * original_logits.image(64, 64)[0] + 128
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / "a.png")
    variables, facts = to_flax(state_of(made))
    values = outputs_of(made, pictures(folder))[:, None]
    found = expect.search(variables, facts, [folder / "a.png"], values)
    assert found.agreed.graph == graphs.assumed(facts.architecture, facts.convention)
    assert GraphOptions(224, 1e-3) in [tried.graph for tried in found.equal]


@pytest.mark.extended
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("file,logit\n", "has no rows"),
        ("logit\n1.0\n", "needs a column of file names"),
        ("file,comment\na.png,good\n", "one or more of numbers"),
        ("file,logit\na.png,nan\n", "not all outputs are finite"),
        ("file,logit\nother.png,1\n", "has none of the table's 1 images, such as other.png"),
    ],
)
def test_a_table_that_cannot_be_used(text, message, folder, tmp_path):
    torch.save({k: torch.tensor(v) for k, v in state_of(MADE[0]).items()}, tmp_path / "weights.pth")
    (tmp_path / "logits.csv").write_text(text)
    line = refused(
        "convert", tmp_path / "weights.pth", tmp_path / "out", "--expect", tmp_path / "logits.csv", "--images", folder
    )
    assert message in line


def test_columns_are_told_by_name_or_by_content(tmp_path):
    table = tmp_path / "a.csv"
    table.write_text("filename,note,p\na.png,x,0.5\nb.png,y,0.25\n")
    assert expect.read_expected(table).columns == ("p",)
    table.write_text("p,which\n0.5,a.png\n0.25,b.png\n")
    found = expect.read_expected(table)
    assert found.files == ("a.png", "b.png")
    np.testing.assert_array_equal(found.values, [[0.5], [0.25]])


def test_the_script_of_export_check_makes_the_table(folder, tmp_path, monkeypatch):
    done("export-check", tmp_path / "export_check.py")
    project = (
        "import numpy, torch\n"
        "network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 1))\n"
        "transform = lambda image: torch.tensor(numpy.array(image)).permute(2, 0, 1).float()\n"
    )
    (tmp_path / "my_project.py").write_text(project)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("sys.argv", ["export_check.py", str(folder), str(tmp_path / "logits.csv")])
    exec(compile((tmp_path / "export_check.py").read_text(), "export_check.py", "exec"), {"__name__": "__main__"})
    found = expect.read_expected(tmp_path / "logits.csv")
    assert found.files == tuple(path.name for path in sorted(folder.iterdir()))
    assert found.columns == ("logit",)

"""Reading, checking and writing back PyTorch checkpoints."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tffjax.conversion import checkpoint, graphs, names, twin
from tffjax.conversion.variables import to_flax

from tffjax.errors import InputError

WEIGHTS = Path(__file__).resolve().parents[2] / "shared" / "weights"
LAYOUTS = [
    pytest.param("resnet50", "torchvision", id="resnet50"),
    pytest.param("efficientnet_b0", "efficientnet_pytorch", id="b0-efficientnet_pytorch"),
    pytest.param("efficientnet_b0", "torchvision", id="b0-torchvision"),
]
REAL = {
    "resnet50-imagenet-half.pth": ("resnet50", "torchvision", 1000, ()),
    "efficientnet_b0-whenet.pth": ("efficientnet_b0", "efficientnet_pytorch", 252, ()),
    "efficientnet_b0-photo_vs_drawing-torchvision.pth": ("efficientnet_b0", "torchvision", 1, ()),
}


def random_state_dict(architecture: str, convention: str, num_outputs: int = 1) -> dict[str, np.ndarray]:
    """Every tensor that the network has, with values of its own."""
    rng = np.random.default_rng(0)
    return {
        key: rng.uniform(0.5, 1.5, shape).astype(np.float32) if shape else np.zeros((), np.int64)
        for key, shape in names.tensor_shapes(architecture, convention, num_outputs).items()
    }


@pytest.fixture(scope="module")
def b0() -> dict[str, np.ndarray]:
    return random_state_dict("efficientnet_b0", "efficientnet_pytorch")


def tensors(state_dict: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {key: torch.tensor(array) for key, array in state_dict.items()}


@pytest.fixture
def saved(tmp_path):
    """Save anything as torch does; the path of the file."""

    def save(payload, **kwargs) -> Path:
        path = tmp_path / "weights.pth"
        torch.save(payload, path, **kwargs)
        return path

    return save


@pytest.mark.parametrize(
    ("architecture", "sites", "channels"), [("resnet50", 53, 26560), ("efficientnet_b0", 49, 21008)]
)
def test_the_tables_hold_the_published_numbers_of_sites_and_channels(architecture, sites, channels):
    convs = [layer for layer in names.layers(architecture, 1) if layer.kind == "conv" and "bias" not in layer.shapes]
    assert len(convs) == sites
    assert sum(layer.shapes["weight"][0] for layer in convs) == channels


def test_torchvision_names_of_b0_are_one_to_one():
    mapping = names.torch_names("efficientnet_b0", "torchvision")
    assert list(mapping) == [layer.name for layer in names.layers("efficientnet_b0", 1)]
    assert len(set(mapping.values())) == len(mapping)
    assert mapping["_blocks.0._depthwise_conv"] == "features.1.0.block.0.0"
    assert mapping["_blocks.15._se_expand"] == "features.7.0.block.2.fc2"


@pytest.mark.parametrize("file", REAL)
def test_real_checkpoints_convert_and_return_bit_for_bit(file):
    path = WEIGHTS / file
    if not path.exists():
        pytest.skip(f"{path} is not here")
    state_dict = checkpoint.read_state_dict(path)
    variables, facts = to_flax(state_dict)
    assert facts == REAL[file]
    assert list(state_dict) == list(names.tensor_shapes(facts.architecture, facts.convention, facts.num_outputs))
    for key, tensor in checkpoint.to_torch(variables, facts.architecture, facts.convention).items():
        if not key.endswith("num_batches_tracked"):  # the one thing that is not kept
            np.testing.assert_array_equal(tensor.numpy(), state_dict[key], strict=True)
    assert torch.isfinite(twin.load_twin(path)(torch.zeros(1, 3, 64, 64))).all()


@pytest.mark.parametrize(("architecture", "convention"), LAYOUTS)
def test_round_trip_is_bit_exact_and_loads_strictly(architecture, convention):
    state_dict = random_state_dict(architecture, convention, num_outputs=3)
    variables, facts = to_flax(state_dict)
    assert facts.num_outputs == 3
    back = checkpoint.to_torch(variables, architecture, convention)
    assert list(back) == list(state_dict)
    for key, tensor in back.items():
        np.testing.assert_array_equal(tensor.numpy(), state_dict[key], strict=True)

    net = twin.twin_from_variables(variables, architecture, graphs.assumed(architecture, convention))
    assert not net.training
    for ours, theirs in zip(net.state_dict().values(), back.values(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.dtype == theirs.dtype


def test_variables_are_laid_out_for_flax(b0):
    variables, _ = to_flax(b0)
    params, stats = variables["params"], variables["batch_stats"]
    stem = params["_conv_stem"]["kernel"]
    assert stem.shape == (3, 3, 3, 32)
    assert stem[0, 1, 2, 5] == b0["_conv_stem.weight"][5, 2, 0, 1]
    depthwise = params["_blocks.3._depthwise_conv"]["kernel"]
    assert depthwise.shape == (5, 5, 1, 144)
    assert depthwise[3, 4, 0, 100] == b0["_blocks.3._depthwise_conv.weight"][100, 0, 3, 4]
    assert set(params["_blocks.0._se_reduce"]) == {"kernel", "bias"}
    assert params["_fc"]["kernel"].shape == (1280, 1)
    assert set(params["_bn0"]) == {"scale", "bias"}
    assert set(stats["_bn0"]) == {"mean", "var"}
    np.testing.assert_array_equal(stats["_bn0"]["var"], b0["_bn0.running_var"], strict=True)


def test_both_b0_conventions_give_the_same_variables(b0):
    renamed = dict(zip(names.tensor_shapes("efficientnet_b0", "torchvision", 1), b0.values(), strict=True))
    variables, facts = to_flax(renamed)
    assert facts[:3] == ("efficientnet_b0", "torchvision", 1)
    expected, _ = to_flax(b0)
    for collection, layers in expected.items():
        assert list(variables[collection]) == list(layers)
        for layer, arrays in layers.items():
            for name, array in arrays.items():
                np.testing.assert_array_equal(variables[collection][layer][name], array, strict=True)


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda sd: sd, id="bare"),
        pytest.param(lambda sd: {"model": sd}, id="model"),
        pytest.param(lambda sd: {"state_dict": sd, "epoch": 3}, id="state_dict"),
        pytest.param(lambda sd: {"model": sd, "optimizer": {"state": {}, "lr": 0.1}, "total_steps": 7}, id="released"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_every_form_of_file_is_read(wrap, zipped, saved):
    state_dict = {"conv1.weight": torch.rand(4, 3, 2, 2), "bn1.num_batches_tracked": torch.tensor(5)}
    read = checkpoint.read_state_dict(saved(wrap(state_dict), _use_new_zipfile_serialization=zipped))
    assert list(read) == list(state_dict)
    for key, tensor in state_dict.items():
        np.testing.assert_array_equal(read[key], tensor.numpy(), strict=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype, saved):
    weight = torch.rand(5).to(dtype)
    read = checkpoint.read_state_dict(saved({"model": {"weight": weight}}))["weight"]
    np.testing.assert_array_equal(read, weight.float().numpy(), strict=True)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none\.pth: No such file"):
        checkpoint.read_state_dict(tmp_path / "none.pth")
    with pytest.raises(InputError, match=r"cannot read .*: Is a directory"):
        checkpoint.read_state_dict(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello, this is no checkpoint", b"PK\x03\x04 nor is this", b"\x89PNG\r\n"])
def test_a_foreign_file_is_refused(content, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a PyTorch checkpoint"):
        checkpoint.read_state_dict(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.98])
def test_a_truncated_file_is_refused(kept, zipped, saved):
    path = saved({"model": {"weight": torch.rand(1000)}}, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match="truncated or damaged"):
        checkpoint.read_state_dict(path)


def test_a_flipped_bit_among_the_weights_is_found(saved):
    weight = torch.rand(1000)
    path = saved({"model": {"weight": weight}})
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged: the checksum of weights/data/0 does not match"):
        checkpoint.read_state_dict(path)


class Trap:
    """Makes a folder when it is unpickled without care."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return Path.mkdir, (self.folder,)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(saved, tmp_path):
    path = saved({"model": Trap(tmp_path / "sprung")})
    with pytest.raises(InputError, match="refused: loading this pickle could run code"):
        checkpoint.read_state_dict(path)
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(InputError, match="refused: loading this pickle could run code"):
        checkpoint.read_state_dict(path)
    assert not (tmp_path / "sprung").exists()


def test_a_pickled_network_is_refused_by_name(saved):
    with pytest.raises(InputError, match=r"it asks for torch\.nn\.modules\.linear\.Linear\b.*state_dict"):
        checkpoint.read_state_dict(saved(torch.nn.Linear(2, 2)))


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        ([1, 2], "list"),
        ({"epoch": 3, "lr": 0.1}, "a dictionary of epoch, lr"),
        ({"model": {}}, "a dictionary of model"),
    ],
)
def test_a_file_without_state_dict_is_refused(payload, found, saved):
    with pytest.raises(InputError, match=f"holds no state dict: .* found {found}"):
        checkpoint.read_state_dict(saved(payload))


def test_a_sparse_tensor_is_refused(saved):
    with pytest.raises(InputError, match="weight is a sparse or quantized tensor"):
        checkpoint.read_state_dict(saved({"weight": torch.eye(3).to_sparse_coo()}))


def test_an_unknown_network_is_refused():
    with pytest.raises(InputError, match=r"not the weights of a supported network: the keys begin a\.weight"):
        to_flax({"a.weight": np.zeros(3, np.float32)})


def test_faults_are_listed_in_full(b0):
    faulty = dict(b0)
    del faulty["_conv_stem.weight"], faulty["_fc.bias"]
    faulty["extra.weight"] = faulty["extra.bias"] = np.zeros(1, np.float32)
    faulty["_bn0.weight"] = np.zeros(31, np.float32)
    faulty["_bn0.bias"] = np.zeros(32, np.int64)
    faulty["_bn1.weight"] = np.where(np.arange(1280) < 3, np.nan, np.float32(1)).astype(np.float32)
    faulty["_bn1.bias"] = np.full(1280, np.inf, np.float32)
    with pytest.raises(InputError) as refusal:
        to_flax(faulty)
    assert str(refusal.value).splitlines() == [
        "this efficientnet_b0 checkpoint (efficientnet_pytorch key names) cannot be converted",
        "  missing keys (2): _conv_stem.weight, _fc.bias",
        "  unexpected keys (2): extra.weight, extra.bias",
        "  not floating point (1): _bn0.bias is int64",
        "  wrong shapes (1): _bn0.weight is (31,), expected (32,)",
        "  non-finite values (2): _bn1.weight (3 of 1280), _bn1.bias (1280 of 1280)",
    ]


def test_a_missing_last_layer_is_reported_and_not_a_crash(b0):
    headless = {key: array for key, array in b0.items() if not key.startswith("_fc.")}
    with pytest.raises(InputError, match=r"missing keys \(2\): _fc\.weight, _fc\.bias"):
        to_flax(headless)


def test_counters_may_be_missing(b0):
    old = {key: array for key, array in b0.items() if not key.endswith("num_batches_tracked")}
    variables, facts = to_flax(old)
    assert facts.num_outputs == 1
    assert list(checkpoint.to_torch(variables, facts.architecture, facts.convention)) == list(b0)


def test_a_checkpoint_with_a_module_prefix_and_half_precision_loads_into_the_twin(b0, saved):
    half = {f"module.{key}": t.half() if t.ndim > 1 else t for key, t in tensors(b0).items()}
    net = twin.load_twin(saved({"model": half, "optimizer": {}, "total_steps": 1}))
    np.testing.assert_array_equal(net._conv_stem.weight.numpy(force=True), half["module._conv_stem.weight"].float())

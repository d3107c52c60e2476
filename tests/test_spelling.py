"""Checkpoints as others save them: every kind of file is read, refused by name, or the user is asked."""

import zipfile

import numpy as np
import original_logits
import pytest
import torch
from command import done, refused, tffjax_command
from safetensors.torch import save_file
from tffjax.conversion import checkpoint, foreign, names
from tffjax.conversion.spelling import LAYOUTS, spelled
from tffjax.conversion.variables import to_flax

import tffjax
from tffjax.errors import InputError
from tffjax.nn import checkpoint as checkpoints


def state_of(architecture="resnet18", convention="torchvision", outputs=1) -> dict[str, np.ndarray]:
    return original_logits.weights(names.tensor_shapes(architecture, convention, outputs))


RESNET = state_of()
B0 = state_of("efficientnet_b0", "efficientnet_pytorch")


def tensors(state):
    return {key: torch.tensor(array) for key, array in state.items()}


def with_prefix(prefix, state=RESNET):
    return {prefix + key: array for key, array in state.items()}


def equal(variables, state=RESNET):
    expected, _ = to_flax(state)
    for collection, layers in expected.items():
        for layer, arrays in layers.items():
            for name, array in arrays.items():
                np.testing.assert_array_equal(variables[collection][layer][name], array, strict=True)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.architecture}-{layout.convention}")
def test_every_network_is_recognized(layout):
    # shapes alone: zeros of no size in memory
    shapes = names.tensor_shapes(*layout, 7)
    state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
    found = spelled(state)
    assert found.layout == layout
    assert found.notes == ()


@pytest.mark.parametrize(
    "prefix",
    ["module.", "model.", "backbone.", "encoder.", "net.", "efficientnet.", "features_extractor.", "_orig_mod.",
     "module.model.", "a.b.c."],
)  # fmt: skip
def test_prefixes_are_taken_off(prefix):
    variables, facts = to_flax(with_prefix(prefix))
    equal(variables)
    assert facts.notes == (f"prefix {prefix!r} taken off",)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"net": state},
        lambda state: {"model_state_dict": state, "epoch": 3},
        lambda state: {"ema": state},
        lambda state: {"teacher": state, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []}},
        lambda state: {"epoch": 1, "state_dict": state, "hyper_parameters": {"lr": 0.1}, "loops": {"a": {"b": 1}}},
        lambda state: {"checkpoint": {"model": state}},
        lambda state: {**state, "epoch": 3},
    ],
    ids=["net", "model_state_dict", "ema", "teacher", "Lightning", "nested", "beside numbers"],
)
def test_wrappers_are_opened(wrap, tmp_path):
    torch.save(wrap(tensors(RESNET)), tmp_path / "a.pth")
    equal(to_flax(checkpoint.read_state_dict(tmp_path / "a.pth"))[0])


@pytest.mark.extended
def test_several_state_dicts_are_asked_about(tmp_path):
    other = {key: array + 1 if array.ndim == 4 else array for key, array in RESNET.items()}
    torch.save({"model": tensors(other), "ema": tensors(RESNET)}, tmp_path / "a.pth")
    assert "holds weights under model, ema; choose with --under" in refused(
        "convert", tmp_path / "a.pth", tmp_path / "out"
    )
    done("convert", tmp_path / "a.pth", tmp_path / "out", "--under", "ema", "--graph", "torchvision")
    equal(tffjax.load(tmp_path / "out").variables)


def test_several_networks_are_asked_about(tmp_path):
    torch.save(tensors(with_prefix("student.") | with_prefix("teacher.")), tmp_path / "a.pth")
    line = refused("convert", tmp_path / "a.pth", tmp_path / "out")
    assert "several networks in this file; choose one with --prefix: student., teacher." in line
    ended = done("convert", tmp_path / "a.pth", tmp_path / "out", "--prefix", "teacher", "--graph", "torchvision")
    assert "left over: student.conv1.weight, " in ended.out
    assert " and 112 more" in ended.out


def test_what_lies_beside_the_network_is_said():
    state = with_prefix("model.") | {"criterion.weight": np.ones(2, np.float32)}
    variables, facts = to_flax(state)
    equal(variables)
    assert facts.notes == ("prefix 'model.' taken off", "left over: criterion.weight")


def test_wrapped_convolutions():
    state = {key.replace("_conv_stem.", "_conv_stem.conv.").replace("_depthwise_conv.", "_depthwise_conv.conv."): array
             for key, array in B0.items()}  # fmt: skip
    variables, facts = to_flax(state)
    equal(variables, B0)
    assert facts.notes == ("'.conv.' taken out of keys",)


@pytest.mark.parametrize("head", ["fc.1", "classifier.0", "classifier.1", "last_layer", "head.fc"])
def test_other_heads(head):
    state = {key.replace("fc.", f"{head}."): array for key, array in RESNET.items()}
    variables, facts = to_flax(state)
    equal(variables)
    assert facts.notes == (f"the head is {head!r}",)


def test_two_possible_heads_are_not_chosen_between():
    state = {key: array for key, array in RESNET.items() if not key.startswith("fc.")}
    for head in ("head1", "head2"):
        state |= {f"{head}.weight": RESNET["fc.weight"], f"{head}.bias": RESNET["fc.bias"]}
    with pytest.raises(InputError, match=r"missing keys \(2\): fc\.weight, fc\.bias\n  unexpected keys \(4\): head1"):
        to_flax(state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_safetensors_of_any_precision(dtype, tmp_path):
    state = {key: t.to(dtype) if t.is_floating_point() else t for key, t in tensors(RESNET).items()}
    save_file(state, tmp_path / "a.safetensors")
    variables, _ = to_flax(checkpoint.read_state_dict(tmp_path / "a.safetensors"))
    equal(variables, {key: t.float().numpy() if t.is_floating_point() else t.numpy() for key, t in state.items()})


def test_a_damaged_safetensors_file(tmp_path):
    save_file(tensors(RESNET), tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="truncated or damaged"):
        checkpoint.read_state_dict(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 94\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page, not the weights"),
        (b"\n<html>", "a web page, not the weights"),
    ],
)
def test_files_that_are_no_checkpoint(content, message, tmp_path):
    (tmp_path / "a.pth").write_bytes(content)
    assert message in refused("convert", tmp_path / "a.pth", tmp_path / "out")


def test_torchscript_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:  # as torch.jit.save, which warns of its end
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"a/{name}", "")
    assert "a TorchScript program, not a state dict" in refused("convert", tmp_path / "a.pt", tmp_path / "out")


def zeros(*shape):
    return np.zeros(shape, np.float32)


FOREIGN = (
    ("NPR", {"conv1.weight": zeros(64, 3, 3, 3), "layer1.0.conv1.weight": zeros(64, 64, 1, 1),
             "fc1.weight": zeros(1, 512)}),
    ("an antialiased network", with_prefix("", RESNET) | {"layer2.0.downsample.0.filt": zeros(64, 1, 3, 3)}),
    ("a linear head on CLIP's features", {"weight": zeros(1, 768), "bias": zeros(1)}),
    ("a CLIP network", {"visual.ln_pre.weight": zeros(4), "visual.conv1.weight": zeros(4, 3, 2, 2)}),
    ("a vision transformer", {"blocks.0.attn.qkv.weight": zeros(9, 3)}),
    ("an Xception network", {"backbone.block1.rep.0.conv1.weight": zeros(1, 1, 3, 3)}),
    ("a ConvNeXt network", {"downsample_layers.0.0.weight": zeros(96, 3, 4, 4)}),
    ("a DenseNet", {"features.denseblock1.denselayer1.conv1.weight": zeros(1, 1, 1, 1)}),
    ("an EfficientNet V2", {"features.1.0.block.0.0.weight": zeros(24, 24, 3, 3)}),
    ("a ResNeXt", state_of("resnet50") | {"layer1.0.conv1.weight": zeros(128, 64, 1, 1),
                                          "layer1.0.conv2.weight": zeros(128, 4, 3, 3)}),
    ("a wide ResNet", state_of("resnet50") | {"layer1.0.conv1.weight": zeros(128, 64, 1, 1),
                                              "layer1.0.conv2.weight": zeros(128, 128, 3, 3)}),
    ("a ResNet with a deep stem", {"conv1.0.weight": zeros(32, 3, 3, 3)}),
)  # fmt: skip


@pytest.mark.parametrize(("what", "state"), FOREIGN, ids=[what for what, _ in FOREIGN])
def test_foreign_networks_are_named_in_a_few_lines(what, state):
    with pytest.raises(InputError, match=what) as refusal:
        to_flax(state)
    assert len(str(refusal.value)) < 2500


@pytest.mark.parametrize("state", [RESNET, B0, state_of("efficientnet_b0", "timm")], ids=["resnet", "b0", "timm"])
def test_our_own_networks_are_not_foreign(state):
    assert foreign.what_is(state) is None


def test_at_most_ten_keys_are_listed():
    short = {key: array for key, array in RESNET.items() if "layer1" not in key}
    with pytest.raises(InputError, match=r"missing keys \(20\): layer1\.0\.conv1\.weight, .* and 10 more$"):
        to_flax(short)


# Two outputs


def test_two_outputs_are_asked_about(tmp_path):
    torch.save(tensors(state_of(outputs=2)), tmp_path / "a.pth")
    line = refused("convert", tmp_path / "a.pth", tmp_path / "out")
    assert "has two outputs: say which one means fake with --fake-output 0 or 1" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.extended
@pytest.mark.parametrize("fake", [0, 1])
def test_two_outputs_become_the_logit_of_their_softmax(fake, tmp_path):
    state = state_of(outputs=2)
    torch.save(tensors(state), tmp_path / "a.pth")
    done("convert", tmp_path / "a.pth", tmp_path / "out", "--fake-output", fake, "--graph", "torchvision")
    model = tffjax.load(tmp_path / "out")
    assert (model.card.num_outputs, model.card.fake_output, model.card.high_means) == (1, fake, "fake")
    head = model.variables["params"]["fc"]
    weight, bias = state["fc.weight"], state["fc.bias"]
    np.testing.assert_array_equal(head["kernel"][:, 0], weight[fake] - weight[1 - fake])
    np.testing.assert_array_equal(head["bias"], bias[[fake]] - bias[[1 - fake]])


def test_two_classes_stay_two_classes(tmp_path):
    path, names = tmp_path / "a.pth", ("--class-names", tmp_path / "names.txt")
    torch.save(tensors(state_of(outputs=2)), path)
    names[1].write_text("cat\ndog\n")
    options = ("--fake-output", "none", "--graph", "torchvision", *names)
    assert "outputs: 2, output 0 (cat) to dog" in done("convert", path, tmp_path / "out", *options).out
    card = checkpoints.read_card(tmp_path / "out")
    assert (card.num_outputs, card.class_names) == (2, ("cat", "dog"))
    line = refused("convert", path, tmp_path / "one", "--fake-output", "1", *names)
    assert "--class-names is for networks with several outputs" in line


def test_a_fake_output_of_one_is_refused(tmp_path):
    torch.save(tensors(RESNET), tmp_path / "a.pth")
    line = refused("convert", tmp_path / "a.pth", tmp_path / "out", "--fake-output", 1)
    assert "--fake-output chooses one of two outputs; this network has 1" in line


# Graphs


@pytest.mark.extended
def test_an_assumed_graph_is_said_by_every_command_until_it_is_settled(tmp_path):
    torch.save(tensors(RESNET), tmp_path / "a.pth")
    ended = done("convert", tmp_path / "a.pth", tmp_path / "out")
    assert "keys and shapes do not say which graph this is" in ended.err
    assert "--graph grip-nodown (no down-sampling in the stem" in ended.err
    assert "resnet-v1" not in ended.err  # basic blocks have no 1x1 convolution to put a stride in
    said = tffjax_command("predict", tmp_path / "out", tmp_path / "none", "--out", tmp_path / "run").err
    assert said.count("tffjax: a.pth may be another network than resnet18 with padding symmetric, epsilon 1e-05") == 1
    done("convert", tmp_path / "a.pth", tmp_path / "out", "--graph", "cnndetection", "--overwrite")
    assert checkpoints.read_card(tmp_path / "out").graph_source == "chosen"
    said = tffjax_command("predict", tmp_path / "out", tmp_path / "none", "--out", tmp_path / "run").err
    assert "may be another network" not in said


@pytest.mark.extended
def test_names_of_torchvision_leave_no_choice(tmp_path):
    torch.save(tensors(state_of("efficientnet_b0", "torchvision")), tmp_path / "a.pth")
    ended = done("convert", tmp_path / "a.pth", tmp_path / "out")
    assert checkpoints.read_card(tmp_path / "out").graph_source == "keys"
    assert ended.err.count("tffjax:") == 0


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        (["--graph", "grip-nodown"], {"stem_stride": 1, "pool_stride": 1}),
        (["--stem-stride", 1], {"stem_stride": 1}),
        (["--graph", "grip-nodown", "--pool-stride", 2, "--ceil-mode"], {"stem_stride": 1, "ceil_mode": True}),
        (["--pool-padding", 0, "--epsilon", 1e-3], {"pool_padding": 0, "epsilon": 1e-3}),
    ],
)
def test_graph_options_one_by_one(options, changes, tmp_path):
    torch.save(tensors(RESNET), tmp_path / "a.pth")
    done("convert", tmp_path / "a.pth", tmp_path / "out", *options)
    assert checkpoints.read_card(tmp_path / "out").graph.changes == changes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--graph", "timm-tf"], "--graph timm-tf is not for a resnet18; choose one of cnndetection, torchvision"),
        (["--graph", "resnet-v1"], "--graph resnet-v1 is not for a resnet18"),
        (["--padding", "same"], "resnet18 has no padding same"),
        (["--stride-in", "1x1"], "resnet18 has no stride in 1x1"),
        (["--dilated-stages", "4"], "resnet18 has no dilated stages"),
        (["--dilated-stages", "x"], "--dilated-stages is numbers from 2 to 4, not 'x'"),
        (["--padding", "mirrored"], "--padding is same, symmetric or a number of pixels, not 'mirrored'"),
    ],
)
def test_graph_options_that_do_not_fit(options, message, tmp_path):
    torch.save(tensors(RESNET), tmp_path / "a.pth")
    assert message in refused("convert", tmp_path / "a.pth", tmp_path / "out", *options)


@pytest.mark.parametrize("layout", [LAYOUTS[0], *LAYOUTS[5:8]], ids=lambda layout: "-".join(layout))
def test_networks_return_to_pytorch_bit_for_bit(layout):
    state = state_of(*layout)
    variables, facts = to_flax(state)
    back = checkpoint.to_torch(variables, facts.architecture, facts.convention)
    assert list(back) == list(state)
    for key, tensor in back.items():
        np.testing.assert_array_equal(tensor.numpy(), state[key], strict=True)

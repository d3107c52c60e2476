"""`tffjax convert`: PyTorch checkpoint to tffjax checkpoint, and back."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tffjax.conversion.cli import require_torch
from tffjax.conversion.graphs import NAMES

from tffjax.cli.console import Talk, overwrite_option, quiet_option, refuse_unused
from tffjax.cli.numbers import RealRange
from tffjax.errors import InputError
from tffjax.nn.card import NORMALIZATIONS, Card
from tffjax.nn.class_names import read_class_names
from tffjax.nn.networks import network_of
from tffjax.places import Place, look_for_file, new_file
from tffjax.results.published import DETECTORS

if TYPE_CHECKING:
    import torch


_GRAPH_OPTIONS = (
    click.option("--padding", metavar="same|symmetric|PIXELS", help="Of an EfficientNet; a number fixes it."),
    click.option("--epsilon", type=RealRange(0, 1, min_open=True, max_open=True), help="Of batch norms."),
    click.option("--stem-stride", type=click.Choice(["1", "2"]), help="Of a ResNet's first convolution."),
    click.option("--pool-stride", type=click.Choice(["1", "2"]), help="Of the max pool behind it."),
    click.option("--stride-in", type=click.Choice(["3x3", "1x1"]), help="Which convolution of a bottleneck has it."),
    click.option("--dilated-stages", metavar="4|3,4", help="Stages with a dilation in place of their stride."),
    click.option("--pool-padding", type=click.Choice(["0", "1"]), help="Of the max pool."),
    click.option("--ceil-mode/--no-ceil-mode", default=None, help="Whether the max pool rounds its size up."),
)
_NAMES_OF_OPTIONS = (
    "padding", "epsilon", "stem_stride", "pool_stride", "stride_in", "dilated_stages", "pool_padding", "ceil_mode",
)  # fmt: skip


def graph_options(command: Any) -> Any:
    """--graph, and the options of a graph one by one."""
    for option in reversed(_GRAPH_OPTIONS):
        command = option(command)
    help_text = "What keys and shapes do not say, by the name of who uses it; see `tffjax convert`'s words on SOURCE."
    return click.option("--graph", type=click.Choice(NAMES), help=help_text)(command)


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--to", type=click.Choice(["flax", "torch"]), default="flax", show_default=True, help="Direction.")
@graph_options
@click.option(
    "--normalization",
    type=click.Choice(sorted(NORMALIZATIONS)),
    default="imagenet",
    show_default=True,
    help="Input of the network. imagenet: RGB, mean and std of ImageNet; imagenet-bgr: the same in BGR; caffe: BGR in "
    "[0, 255] minus means; inception: RGB in [-1, 1]; unit: RGB in [0, 1].",
)
@click.option(
    "--high-means",
    type=click.Choice(["fake", "real"]),
    default="fake",
    show_default=True,
    help="What a high logit of a one-output network means.",
)
@click.option(
    "--fake-output",
    type=click.Choice(["0", "1", "none"]),
    help="Which of two outputs means fake: the detector's logit is then fake minus real. none: two classes.",
)
@click.option(
    "--class-names",
    type=click.Path(path_type=Path),
    help="Names of several outputs, shown with them everywhere: a text file with one a line, or JSON (a list, or names "
    "by index).",
)
@click.option(
    "--expect",
    type=click.Path(path_type=Path),
    help="Table of what the original network says (file, logit or probability): finds and proves graph, normalization "
    "and size. tffjax export-check writes the script that makes it.",
)
@click.option("--images", type=click.Path(path_type=Path), help="With --expect: the folder with the table's images.")
@click.option("--under", metavar="NAME", help="Where the file holds several state dicts: the name of the one to take.")
@click.option("--prefix", metavar="TEXT", help="Where a state dict holds several networks: how its keys begin.")
@click.option(
    "--published",
    type=click.Choice(DETECTORS),
    help="The weights are those of this detector of the paper: its numbers stand beside the studies'.",
)
@overwrite_option
@quiet_option
def convert(source: Path, out: Path, to: str, overwrite: bool, quiet: bool, **given: Any) -> None:
    """Convert a PyTorch checkpoint SOURCE to a tffjax checkpoint folder OUT, or back with --to torch.

    ResNet-18 to 152 and EfficientNet-B0 to B7 are recognized from keys and shapes, in the names of torchvision, timm or
    efficientnet_pytorch, with any prefix; .pth and .safetensors. Files are loaded with weights_only=True; what needs
    more is refused.

    Keys and shapes do not say everything. Where they leave a choice, --graph settles it: cnndetection (ResNets as
    torchvision's), grip-nodown (no down-sampling in the stem), resnet-v1 (stride in the 1x1 convolution: Caffe, Keras);
    efficientnet-pytorch ("same" padding from the input), efficientnet-pytorch-224 (fixed for 224 pixels), timm, timm-tf
    (tf_efficientnet). Without it the published detectors' graph is assumed, and every command says so.

    A ProGAN generator is recognized, too (of GAN Dissection, interfacegan, genforce, pytorch_GAN_zoo, pro_gan_pytorch),
    one way only.

    \b
    Example:
      tffjax convert detector.pth detector
      tffjax convert nodown.pth detector --graph grip-nodown
      tffjax convert detector.pth detector --expect logits.csv --images images/
      tffjax convert two-outputs.pth detector --fake-output 1
      tffjax convert resnet50.pth imagenet --graph resnet-v1 --normalization caffe --class-names imagenet.txt
      tffjax convert b4.pth detector --graph efficientnet-pytorch --padding 380
      tffjax convert proggan_bedroom-d8a89ff1.pth bedroom
      tffjax convert --to torch detector detector-again.pth
    """
    require_torch()
    from tffjax.conversion import checkpoint as torch_checkpoint
    from tffjax.conversion.cli.proof import proven
    from tffjax.conversion.convert import choices_text, convert_payload
    from tffjax.conversion.generator import generator_in, load_file
    from tffjax.conversion.names import conventions_of

    from tffjax.nn import checkpoint
    from tffjax.nn.generator import save_generator

    talk = Talk(quiet)
    if to == "torch":
        refuse_unused("with --to torch: the card says it", *given)
    if to == "torch":
        place = look_for_file(out, overwrite)
        with talk.busy(f"reading {source}"):
            model = checkpoint.load(source)
        architecture = model.card.architecture
        convention = conventions_of(architecture)[0]
        if "torchvision" in conventions_of(architecture) and model.card.graph.padding == "symmetric":
            convention = "torchvision"
        _write_torch(torch_checkpoint.to_torch(model.variables, architecture, convention), place)
        talk.say(f"{source} -> {out}: {architecture}, keys as in {convention}")
        return
    checkpoint.check_free(out, overwrite)
    overwrite = overwrite and out.exists()  # what appears from now on stays
    with talk.busy(f"reading {source}"):
        payload = load_file(source)
        generator = generator_in(payload, source)
    if generator is not None:
        refuse_unused("for a generator", *given)
        made = save_generator(generator, out, overwrite=overwrite)
        talk.say(f"{source} -> {out}: generator of {made.size} pixels, latents of {made.latent}, widths {made.widths}")
        return
    expect, images = given.pop("expect"), given.pop("images")
    if (expect is None) != (images is None):
        raise InputError(
            "--expect needs --images, the folder with the images of the table, and --images needs --expect"
        )
    with talk.busy(f"converting {source}"):
        model, facts = convert_payload(payload, source, asked(given))
        if facts.num_outputs == 2 and given["fake_output"] is None:
            raise InputError(
                f"{source} has two outputs: say which one means fake with --fake-output 0 or 1 (often 1), or "
                "--fake-output none for a network of two classes that is no detector"
            )
        card = with_class_names(as_published(model.card, given["published"]), given["class_names"])
        model = dataclasses.replace(model, card=card)
    for note in facts.notes:
        talk.say(f"{source}: {note}")
    if expect:
        model = proven(talk, model, facts, expect, images)
    card = checkpoint.save(model, out, overwrite=overwrite)
    normalization = next(name for name, known in NORMALIZATIONS.items() if known == card.normalization)
    talk.say(f"{source} -> {out}: {described(card)}, {normalization} normalization")
    if card.graph_source == "assumed":
        talk.warn(
            f"keys and shapes do not say which graph this is; {card.graph} is assumed. Settle it with "
            f"{choices_text(facts)}"
        )


def as_published(card: Card, name: str | None) -> Card:
    """The card of a detector of the paper; unchanged for None.

    Raises:
        InputError: that detector has another architecture, or the network is none.
    """
    if name is not None and (network_of(card).published != name.removeprefix("CR-") or card.num_outputs != 1):
        raise InputError(f"--published {name}: this is {card.architecture} with {card.num_outputs} outputs, so another")
    return dataclasses.replace(card, published=name)


def with_class_names(card: Card, path: Path | None) -> Card:
    """The card with the names that a file gives its outputs; unchanged for None.

    Raises:
        InputError: as `read_class_names`; or there is one output.
    """
    if path is None:
        return card
    if card.num_outputs == 1:
        raise InputError("--class-names is for networks with several outputs; this one has a logit, real or fake")
    return dataclasses.replace(card, class_names=read_class_names(path, card.num_outputs))


def asked(given: dict[str, Any]) -> Any:
    """The options of a command as `tffjax.conversion.convert.Asked`."""
    from tffjax.conversion.convert import Asked

    options = {name: given[name] for name in _NAMES_OF_OPTIONS if given[name] is not None}
    for name in ("stem_stride", "pool_stride", "pool_padding"):
        if name in options:
            options[name] = int(options[name])
    if options.get("padding", "").isdigit():
        options["padding"] = int(options["padding"])
    elif options.get("padding", "same") not in ("same", "symmetric"):
        raise InputError(f"--padding is same, symmetric or a number of pixels, not {options['padding']!r}")
    if "dilated_stages" in options:
        try:
            options["dilated_stages"] = tuple(sorted(int(stage) for stage in options["dilated_stages"].split(",")))
        except ValueError:
            raise InputError(f"--dilated-stages is numbers from 2 to 4, not {options['dilated_stages']!r}") from None
    fake = given["fake_output"]
    rest = {name: given[name] for name in ("graph", "normalization", "high_means", "under", "prefix")}
    return Asked(options=options, fake_output=int(fake) if fake in ("0", "1") else None, **rest)


def described(card: Card) -> str:
    """What a card says, in a line."""
    if card.fake_output is not None:
        meaning = f"one logit, output {card.fake_output} (fake) minus output {1 - card.fake_output}"
    elif card.num_outputs == 1:
        meaning = f"one output, a high logit means {card.high_means}"
    else:
        named = "" if card.class_names is None else f", {card.output_text(0)} to {card.class_names[-1]}"
        meaning = f"outputs: {card.num_outputs}{named}"
    return f"{card.architecture}, {card.graph} ({card.graph_source}), {meaning}"


def _write_torch(state_dict: dict[str, "torch.Tensor"], place: Place) -> None:
    import torch

    # an open file: from a name, PyTorch would write the name into the archive
    with new_file(place) as temporary, temporary.open("wb") as file:
        torch.save(state_dict, file)

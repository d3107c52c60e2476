"""`tffjax convert`: PyTorch checkpoint to tffjax checkpoint, and back."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tffjax.conversion.cli import require_torch

from tffjax.cli.console import Talk, overwrite_option, quiet_option, refuse_unused
from tffjax.errors import InputError
from tffjax.files import replace_file
from tffjax.nn.card import NORMALIZATIONS, Card

if TYPE_CHECKING:
    import torch

    from tffjax.nn import Model


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--to", type=click.Choice(["flax", "torch"]), default="flax", show_default=True, help="Direction.")
@click.option(
    "--normalization",
    type=click.Choice(sorted(NORMALIZATIONS)),
    default="imagenet",
    show_default=True,
    help="Input of the network. imagenet: RGB in [0, 1], mean and std of ImageNet; caffe: BGR in [0, 255] minus means.",
)
@click.option(
    "--high-means",
    type=click.Choice(["fake", "real"]),
    default="fake",
    show_default=True,
    help="What a high logit of a one-output network means.",
)
@overwrite_option
@quiet_option
def convert(
    source: Path, out: Path, to: str, normalization: str, high_means: str, overwrite: bool, quiet: bool
) -> None:
    """Convert a PyTorch checkpoint SOURCE to a tffjax checkpoint folder OUT, or back with --to torch.

    The network (ResNet-50, EfficientNet-B0 of efficientnet_pytorch or torchvision) and its number of outputs are
    recognized from the keys, and so is a ProGAN generator (of GAN Dissection, interfacegan, genforce, pytorch_GAN_zoo,
    pro_gan_pytorch), one way only. Files are loaded with weights_only=True; what needs more is refused.
    `tffjax verify` proves the result.

    \b
    Example:
      tffjax convert detector.pth detector
      tffjax convert proggan_bedroom-d8a89ff1.pth bedroom
      tffjax convert --to torch detector detector-again.pth
    """
    require_torch()
    from tffjax.conversion import checkpoint as torch_checkpoint
    from tffjax.conversion.generator import read_generator

    from tffjax.nn import checkpoint
    from tffjax.nn.generator import save_generator

    talk = Talk(quiet)
    if to == "torch":
        refuse_unused("with --to torch: the card says it", "normalization", "high_means")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists already; choose another name or pass --overwrite")
    if to == "torch":
        with talk.busy(f"reading {source}"):
            model = checkpoint.load(source)
        convention = "efficientnet_pytorch" if model.card.padding == "same" else "torchvision"
        _write_torch(torch_checkpoint.to_torch(model.variables, model.card.architecture, convention), out)
        talk.say(f"{source} -> {out}: {model.card.architecture}, keys as in {convention}")
        return
    with talk.busy(f"reading {source}"):
        generator = read_generator(source)
    if generator is not None:
        refuse_unused("for a generator", "normalization", "high_means")
        made = save_generator(generator, out, overwrite=overwrite)
        talk.say(f"{source} -> {out}: generator of {made.size} pixels, latents of {made.latent}, widths {made.widths}")
        return
    with talk.busy(f"converting {source}"):
        model = read_torch(source, normalization, high_means)
        card = checkpoint.save(model, out, overwrite=overwrite)
    meaning = f", a high logit means {card.high_means}" if card.num_outputs == 1 else ""
    talk.say(
        f"{source} -> {out}: {card.architecture}, {card.padding} padding, epsilon {card.epsilon:g}, "
        f"outputs: {card.num_outputs}, {normalization} normalization{meaning}"
    )


def read_torch(source: Path, normalization: str = "imagenet", high_means: str = "fake") -> "Model":
    """A PyTorch checkpoint as a model with its card.

    Raises:
        InputError: as `tffjax.conversion.checkpoint`.
    """
    import jax
    import jax.numpy as jnp
    from tffjax.conversion import checkpoint
    from tffjax.conversion.variables import to_flax

    from tffjax.nn import Model, module_of

    variables, facts = to_flax(checkpoint.read_state_dict(source))
    card = Card(
        facts.architecture,
        facts.num_outputs,
        facts.padding,
        facts.epsilon,
        NORMALIZATIONS[normalization],
        high_means,
        source=source.name,
        source_sha256=_sha256(source),
    )
    return Model(module_of(card), jax.tree.map(jnp.asarray, variables), card)


def _write_torch(state_dict: dict[str, "torch.Tensor"], out: Path) -> None:
    import torch

    out.parent.mkdir(parents=True, exist_ok=True)
    # an open file: from a name, PyTorch would write the name into the archive
    with replace_file(out) as temporary, temporary.open("wb") as file:
        torch.save(state_dict, file)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

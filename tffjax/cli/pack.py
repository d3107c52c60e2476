"""`tffjax pack`: images as packed records."""

from pathlib import Path
from typing import Any

import click

from tffjax.cli.console import Talk, overwrite_option, quiet_option, refuse_unused
from tffjax.cli.images import labels_option, size_options, workers_option
from tffjax.data.loading import THREADS
from tffjax.data.preprocessing import Transform
from tffjax.errors import CheckFailed, InputError
from tffjax.pipeline.packing import SHARD_IMAGES, Packing, pack, verify


@click.command("pack")
@click.argument("data", type=click.Path(path_type=Path), nargs=-1, metavar="DATA...")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the records.")
@click.option("--verify", "check", type=click.Path(path_type=Path), metavar="RECORDS", help="Check records instead.")
@click.option(
    "--pixels", is_flag=True, help="Store pixels, decoded, resized and cropped, in place of the files' bytes."
)
@size_options
@labels_option
@click.option(
    "--shard-images", type=click.IntRange(min=1), default=SHARD_IMAGES, show_default=True, help="Images a shard."
)
@workers_option
@overwrite_option
@quiet_option
def pack_command(**given: Any) -> None:
    """Pack images into a few large files, which are read faster than many small ones.

    DATA are images, folders, lists or TFDS, as of `tffjax predict`. RECORDS, the folder that is written, is DATA for
    every command and gives the same tables, byte for byte; RECORDS/progan is a folder of it. The files' bytes are
    stored as they are. With --pixels the decoded pixels are, which costs room and saves time; they serve only runs with
    the same --resize and --crop.

    Writes shards (ArrayRecord), index.parquet (a row an image) and records.json (SHA-256 of all). An interrupted run
    goes on with the same command. --verify names damaged records and shards, with exit code 1.

    \b
    Example:
      tffjax pack images/ --out records
      tffjax pack images/ --pixels --resize 256 --out pixels    # for tffjax train, which crops at random
      tffjax pack --verify records
    """
    talk, workers = Talk(given["quiet"]), given["workers"] or THREADS
    if given["check"] is not None:
        if given["data"] or given["out"]:
            raise InputError("--verify takes the folder of records, and neither DATA nor --out")
        if damage := verify(given["check"], workers, talk):
            for line in damage:
                talk.say(line)
            raise CheckFailed(f"{given['check']}: {len(damage)} damaged parts")
        talk.say(f"{given['check']} is as it was packed")
        return
    if not given["data"] or given["out"] is None:
        raise InputError("give DATA and --out RECORDS, or --verify RECORDS; see tffjax pack --help")
    if not given["pixels"]:
        refuse_unused("without --pixels", "resize", "crop")
    pixels = Transform(given["resize"], given["crop"]) if given["pixels"] else None
    packing = Packing(given["data"], pixels, given["labels"], given["shard_images"])
    pack(packing, given["out"], workers, given["overwrite"], talk)

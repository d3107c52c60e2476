"""`tffjax export-check`: the script that writes down what a user's own network says, for `tffjax convert --expect`."""

from pathlib import Path

import click

from tffjax.cli.console import Talk, overwrite_option, quiet_option
from tffjax.places import look_for_file, new_file

SCRIPT = '''"""Write what a network says about images, for: tffjax convert FILE OUT --expect logits.csv --images FOLDER

Run it where the network runs today:  python export_check.py FOLDER logits.csv
"""
import csv
import sys
from pathlib import Path

import torch
from PIL import Image

# Two lines to fill in: your network with its weights, and what makes a tensor of a PIL image, as in your evaluation.
from my_project import network, transform

network.eval()
folder, table = Path(sys.argv[1]), sys.argv[2]
files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))[:24]
with open(table, "w", newline="") as file, torch.no_grad():
    writer = csv.writer(file)
    for number, path in enumerate(files):
        outputs = network(transform(Image.open(path).convert("RGB"))[None]).flatten().tolist()
        if number == 0:
            names = ["logit"] if len(outputs) == 1 else ["output%d" % i for i in range(len(outputs))]
            writer.writerow(["file"] + names)
        writer.writerow([path.relative_to(folder).as_posix()] + outputs)
print("%d images -> %s" % (len(files), table))
'''


@click.command(name="export-check")
@click.argument("out", type=click.Path(path_type=Path), default="export_check.py")
@overwrite_option
@quiet_option
def export_check(out: Path, overwrite: bool, quiet: bool) -> None:
    """Write a short PyTorch script that records what your own network says about some images.

    Keys and shapes of a checkpoint do not say everything about a network. Fill two lines of the script in, run it where
    the network runs today, and give its table to `tffjax convert --expect`: that proves which network it is. It needs
    PyTorch and Pillow of any version, and not tffjax. Some of the images should have sides that are no multiples of 32.

    \b
    Example:
      tffjax export-check export_check.py
      python export_check.py images/ logits.csv
      tffjax convert detector.pth detector --expect logits.csv --images images/
    """
    with new_file(look_for_file(out, overwrite)) as temporary:
        temporary.write_text(SCRIPT, encoding="utf-8")
    Talk(quiet).say(f"{out}: fill its two lines in, then python {out} IMAGES logits.csv")

"""The study of the detector and the images that come with tffjax."""

from tffjax.embedded import Embedded
from tffjax.nn import network_of
from tffjax.whole.run import examples
from tffjax.whole.steps import Whole

THRESHOLD = 0.36
"""From here on an image of the bundled generator counts as found; 10 % of held-out photographs at its scale do, too
(`scripts/demo_threshold.py`)."""


def demonstration(given: Embedded) -> Whole:
    """The study of the demo: images keep their size, and channels are ranked on the generator of the training alone."""
    return Whole(
        given.detector,
        (given.images,),
        (given.images / given.seen,),
        given.seen,
        own_size=True,
        bootstrap=50,
        max_k=1024,
        shown=(8, 4),  # every site that is shown is compiled
        color_channels=network_of("efficientnet_b0").paper_k,
        heatmaps=examples((given.images,), given.seen),
        generator=given.generator,
        generated=(64, 20),
        threshold=THRESHOLD,
    )

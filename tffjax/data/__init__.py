"""Images: where they are, decoding, preprocessing, ablations, batches."""

from tffjax.data.folders import EXTENSIONS, LABEL_FOLDERS, other_extensions
from tffjax.data.image_file import ImageFile, fingerprint, label_warning, relative_names
from tffjax.data.labels import LABELS, Label
from tffjax.data.loading import Batch, BatchPlan, Plan, Variant, batches, plan
from tffjax.data.sources import Found, address, find, find_images, is_there, of_generator

__all__ = [
    "EXTENSIONS",
    "LABELS",
    "LABEL_FOLDERS",
    "Batch",
    "BatchPlan",
    "Found",
    "ImageFile",
    "Label",
    "Plan",
    "Variant",
    "address",
    "batches",
    "find",
    "find_images",
    "fingerprint",
    "is_there",
    "label_warning",
    "of_generator",
    "other_extensions",
    "plan",
    "relative_names",
]

"""Images: folders of them, decoding, preprocessing, ablations, batches."""

from tffjax.data.folders import (
    EXTENSIONS,
    LABEL_FOLDERS,
    ImageFile,
    find_images,
    fingerprint,
    label_warning,
    other_extensions,
    relative_names,
)
from tffjax.data.labels import LABELS, Label
from tffjax.data.loading import Batch, BatchPlan, Plan, Variant, batches, plan

__all__ = [
    "EXTENSIONS",
    "LABELS",
    "LABEL_FOLDERS",
    "Batch",
    "BatchPlan",
    "ImageFile",
    "Label",
    "Plan",
    "Variant",
    "batches",
    "find_images",
    "fingerprint",
    "label_warning",
    "other_extensions",
    "plan",
    "relative_names",
]

"""The studies: each has its statistic, its sums over many images, its tables and its figures."""

STUDIES = {
    "color": "tffjax.studies.color.run:Color",
    "dropout": "tffjax.studies.dropout.run:Dropout",
    "find-k": "tffjax.studies.dropout.find_k:FindK",
    "generator": "tffjax.studies.generator.run:GeneratorStudy",
    "lrpmax": "tffjax.studies.lrpmax.run:LrpMax",
    "predict": "tffjax.studies.predict:Predict",
    "rank": "tffjax.studies.ffrs.run:Rank",
}
"""Those that are done in shards: name of the command -> where the study is."""

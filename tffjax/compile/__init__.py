"""From functions of a model and a batch to compiled programs."""

"""A study over many images: batches, passes, run directories, resuming, shards. No command line, no terminal."""

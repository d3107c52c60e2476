"""PyTorch checkpoints to Flax and back, and the PyTorch twin that proves the result. Needs torch."""

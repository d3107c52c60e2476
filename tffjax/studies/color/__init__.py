"""What grayscale and other ablations do to channels."""

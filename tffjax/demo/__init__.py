"""The demonstration of the embedded detector."""

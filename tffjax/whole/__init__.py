"""The whole study of a detector."""

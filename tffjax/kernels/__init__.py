"""Convolutions, their transposes and pools, each an exact equivalent of what a backend does badly. Knows JAX only."""

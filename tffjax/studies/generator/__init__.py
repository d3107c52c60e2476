"""Which channels of a generator make the traces that a detector sees (supplement M)."""

"""Feature-map dropout."""

"""Training of detectors (SPEC 8)."""

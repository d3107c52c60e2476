"""Heatmaps of single decisions."""

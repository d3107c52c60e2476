"""Figures and tables of the paper's supplement, for any detector, on one page."""

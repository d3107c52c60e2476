"""Run directories as one HTML page that needs nothing but a browser.

`read_sources` reads and checks the folders, `report_page` makes the page from them. One module for each kind of run
(`ranking`, `dropout`, `patches`, `color`, `heatmaps`) turns its tables into `Part`s: HTML made here, numbers for the
page's script to draw, and pictures, which the script decodes when they are looked at.
"""

from tffjax.report.page import report_page
from tffjax.report.sources import Source, read_sources

__all__ = ["Source", "read_sources", "report_page"]

"""Reports: one self-contained HTML file, and Scores that show themselves in a notebook."""

from neuroalign.reports.report import report
from neuroalign.reports.sections import (
           Picture,
           Section,
           Table,
           default_pictures,
           default_sections,
           load_report_folder,
)
from neuroalign.reports.show import ScoresView, show

__all__ = ["Picture", "ScoresView", "Section", "Table", "default_pictures", "default_sections", "load_report_folder",
           "report", "show"]

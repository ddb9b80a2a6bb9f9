"""Reports: one self-contained HTML file, Scores that show themselves in a notebook, and exports."""

from neuroalign.reports.export import export, to_evoked
from neuroalign.reports.pictures import Picture, default_pictures
from neuroalign.reports.report import report
from neuroalign.reports.sections import Section, Table, default_sections, load_report_folder
from neuroalign.reports.show import ScoresView, show

__all__ = ["Picture", "ScoresView", "Section", "Table", "default_pictures", "default_sections", "export",
           "load_report_folder", "report", "show", "to_evoked"]

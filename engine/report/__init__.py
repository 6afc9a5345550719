"""Pages and pictures for people: the evaluation report and the similarity table.

Every HTML file stands alone: styles, plots and thumbnails are inside it, it loads nothing and runs no script. File names are
shown, never believed: they are escaped, and control characters are spelled out.
"""

from __future__ import annotations

from faceembed.engine.report.evaluation import write_eval_report
from faceembed.engine.report.matrix import check_matrix_size, write_matrix_html, write_matrix_png

__all__ = ["check_matrix_size", "write_eval_report", "write_matrix_html", "write_matrix_png"]

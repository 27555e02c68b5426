"""What is made of saved results: an HTML page, a timeline, files of other tools."""

from servesim.report.files import write_report

__all__ = ["write_report"]

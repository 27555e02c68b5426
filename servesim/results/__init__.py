"""What a run gave: recording, audits, summary, saving.

Start reading at `run_result`; columns and metrics are declared in `schema`.
"""

from servesim.results.audit import Finding, audit, raise_findings
from servesim.results.frames import Frames, MemoryFrames, ParquetFrames
from servesim.results.recorder import FrameRecorder
from servesim.results.run_result import RunResult
from servesim.results.saving import check_destination, is_result
from servesim.results.sinks import MemorySink, ParquetSink, Sink
from servesim.results.summary import PoolHardware, SummaryOptions, summarize

__all__ = [
    "Finding",
    "FrameRecorder",
    "Frames",
    "MemoryFrames",
    "MemorySink",
    "ParquetFrames",
    "ParquetSink",
    "PoolHardware",
    "RunResult",
    "Sink",
    "SummaryOptions",
    "audit",
    "check_destination",
    "is_result",
    "raise_findings",
    "summarize",
]

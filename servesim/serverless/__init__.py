"""Serverless cold-start logs: read, generate, check and summarise functions, invocations and cold starts.

`read` takes a published log in its native form, `generate_cold_starts` and `generate_functions` make one from published
statistics, `summary` tells what is in it. Their frames are those of `servesim.serverless.schema`.
"""

from servesim.serverless.cold_start_stream import generate_cold_starts
from servesim.serverless.fleet import generate_functions
from servesim.serverless.formats import FORMATS, NAMES, detect, read
from servesim.serverless.keep_alive import cold_by_gap
from servesim.serverless.log import ServerlessLog
from servesim.serverless.summary import Summary, summary

__all__ = [
    "FORMATS",
    "NAMES",
    "ServerlessLog",
    "Summary",
    "cold_by_gap",
    "detect",
    "generate_cold_starts",
    "generate_functions",
    "read",
    "summary",
]

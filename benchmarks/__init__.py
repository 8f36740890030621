"""What is timed, on which workloads, and the reports: asv suites and `python -m benchmarks`."""

import importlib.util

if importlib.util.find_spec("asv_runner"):  # a card is recorded without it
    from .running.timed import Timed

    __all__ = ["Timed"]

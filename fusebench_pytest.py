"""pytest's plugin: a module's kernels are held against the float64 reference in its own tests.

    import my_kernels

    def test_my_kernels(fusebench_check):
        fusebench_check(my_kernels)

    @pytest.mark.parametrize("function", ["softmax", "adam"])   # a test for each
    def test_one(fusebench_check, function):
        fusebench_check(my_kernels, function)

It stands beside the packages, so that pytest loads none of them unless a test asks for it.
"""

from pathlib import Path

import pytest


@pytest.fixture
def fusebench_check():
    """fusebench_check(module, *only, everything=False): what `python -m benchmarks check` does.

    module: imported already; only: families, functions or variants; everything: the workloads'
    layers as well. The test fails with a line for every function that is wrong or raises, and the
    command that replays it. There is no time limit.
    """

    def checked(module, *only, everything=False):
        __tracebackhide__ = True
        import kernels
        from benchmarks.checking import check

        whole = kernels.completed(module)
        rows, _ = check.rows(whole, only)
        verdicts = [(row, check.judged(whole, *row, everything)) for row in rows]
        bad = [(row, verdict) for row, verdict in verdicts if verdict.word in check.BAD]
        if bad:
            file = Path(getattr(module, "__file__", module.__name__))
            lines = [check.line(*row, verdict, file.stem, file) for row, verdict in bad]
            pytest.fail("\n".join(lines), pytrace=False)

    return checked

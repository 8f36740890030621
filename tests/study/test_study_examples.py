"""The worked examples say what comes of them."""

import doctest

from benchmarks.study import examples


def test_every_example_is_as_it_says():
    found = doctest.testmod(examples)
    assert found.failed == 0
    assert found.attempted > 12

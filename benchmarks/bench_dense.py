"""Times the dense layer, forward and backward, its activation fused in."""

from .suites.suite import suites

globals().update(suites("dense"))

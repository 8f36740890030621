"""Times the L2 penalty and the clipping of gradients."""

from .suites.suite import suites

globals().update(suites("gradients"))

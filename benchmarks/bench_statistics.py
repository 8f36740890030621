"""Times counts of zeros, dead and saturated units, histograms and norms."""

from .suites.suite import suites

globals().update(suites("statistics"))

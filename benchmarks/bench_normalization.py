"""Times batch and layer normalisation, forward and backward."""

from .suites.suite import suites

globals().update(suites("normalization"))

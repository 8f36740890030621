"""Times initial weights: random numbers written to memory."""

from .suites.suite import suites

globals().update(suites("initializers"))

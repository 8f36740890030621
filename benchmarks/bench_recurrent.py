"""Times recurrent layers, forward and backward through time."""

from .suites.suite import suites

globals().update(suites("recurrent"))

"""Times dropout: random words for every element of an array."""

from .suites.suite import suites

globals().update(suites("dropout"))

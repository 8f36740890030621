"""Times directions of second order, and what a line search needs."""

from .suites.suite import suites

globals().update(suites("second_order"))

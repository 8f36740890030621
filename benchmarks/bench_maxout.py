"""Times maxout layers, forward and backward."""

from .suites.suite import suites

globals().update(suites("maxout"))

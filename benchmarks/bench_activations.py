"""Times the activation functions, forward and backward."""

from .suites.suite import suites

globals().update(suites("activations"))

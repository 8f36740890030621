"""Times the activation functions, forward and backward."""

from .suite import suites

globals().update(suites("activations"))

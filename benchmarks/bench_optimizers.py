"""Times the update rules on all parameters of a layer; they do not know the batch size."""

from .suites.suite import suites

globals().update(suites("optimizers"))

"""Times affine and elastic distortions of images."""

from .suites.suite import suites

globals().update(suites("augmentation"))

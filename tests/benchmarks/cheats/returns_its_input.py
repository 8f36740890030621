"""Gives back what it was given."""


def softmax(logits, *, out=None):
    return logits

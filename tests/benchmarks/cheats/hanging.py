"""Never returns."""

import time


def softmax(logits, *, out=None):
    while True:
        time.sleep(1)

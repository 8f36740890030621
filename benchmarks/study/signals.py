"""The course's signals of overfitting, read off the losses of a run.

A curve has a number for every epoch, the first one before any training. A signal is the epoch from
which on it is seen, None where it is not; it is looked for in every WINDOW epochs in a row, where a
curve's change is that of the straight line which fits it best, so that noise is none.
"""

WINDOW = 5  # epochs
CLEAR = 0.02  # of the mean loss: a change that counts
WIDE = 0.1  # of the validation loss: a gap that counts
FLAT = 0.01  # of the mean loss: what a plateau may vary


def rising_validation(training, validation):
    """Where the validation loss rises while the training loss falls: that of its least value."""
    for first, falls, rises in _pairs(training, validation):
        falling = change(falls) < -CLEAR * _mean(falls)
        if falling and change(rises) > CLEAR * _mean(rises):
            return first + _least(rises)
    return None


def growing_gap(training, validation):
    """Where the validation loss leaves the training loss behind: that of the least gap."""
    gaps = [above - below for above, below in zip(validation, training, strict=True)]
    for first, gap, losses in _pairs(gaps, validation):
        if gap[-1] > WIDE * losses[-1] and change(gap) > CLEAR * _mean(losses):
            return first + _least(gap)
    return None


def plateau(losses):
    """Where a loss stays as it is: the first of these epochs."""
    for first, window in enumerate(_windows(losses)):
        if max(window) - min(window) <= FLAT * _mean(window):
            return first
    return None


def found(training, validation):
    """All of them, by name."""
    return {
        "rising_validation": rising_validation(training, validation),
        "growing_gap": growing_gap(training, validation),
        "plateau": plateau(validation),
    }


def change(values):
    """From the first to the last, along the line of least squares."""
    middle = (len(values) - 1) / 2
    weights = [at - middle for at in range(len(values))]
    slope = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(w * w for w in weights)
    return slope * (len(values) - 1)


def _windows(values):
    """Every WINDOW values in a row."""
    return [values[first : first + WINDOW] for first in range(len(values) - WINDOW + 1)]


def _pairs(one, other):
    """(where they begin, values of one curve, those of the other)."""
    windows = zip(_windows(one), _windows(other), strict=True)
    return ((first, *both) for first, both in enumerate(windows))


def _least(values):
    """Where the least one is, the last of several."""
    return max(at for at, value in enumerate(values) if value == min(values))


def _mean(values):
    return sum(values) / len(values)

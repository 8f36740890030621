"""What other tools would say of the same blocks: their rules, from their source or documentation.

A tool gets the times of both sides, one a block, which is more than it asks for: asv, benchstat,
criterion and nvbench take their samples in one process a side, or in one after the other, and see
neither that a process has its own fortune nor that the machine changes between the sides.

- asv 0.6.6, asv/commands/compare.py (_is_result_better) and asv/_stats.py (is_different): the
  medians differ by more than the factor 1.1, and a Mann-Whitney U test says so at p < 0.002.
- benchstat, golang.org/x/perf/cmd/benchstat and benchmath (AssumeNothing; CompareAlpha: 0.05): a
  change is shown where a two-sided Mann-Whitney U test has p <= 0.05, however small it is.
- criterion.rs, src/analysis/compare.rs and the defaults of Criterion: a t statistic, bootstrapped
  from both sides together, has p < 0.05, and the 95 % interval of the change of the mean,
  bootstrapped from each side, lies beyond 1 %. It resamples 100,000 times, here 4,000.
- nvbench, python/scripts/nvbench_compare_legacy.py: the means differ by more than the smaller one
  of the two relative standard deviations.

None of them corrects for the number of cells. How each takes its samples is not replayed.
"""

from functools import cache

import numpy as np

from .verdicts import FASTER, SAME, SLOWER

RESAMPLES = 4000
ALPHA, NOISE = 0.05, 0.01  # of criterion; the former of benchstat too
FACTOR = 1.1  # of asv


def asv(base, head):
    low, high = np.median(base), np.median(head)
    if rank_test(base, head) >= 0.002:
        return SAME
    return SLOWER if low < high / FACTOR else FASTER if high < low / FACTOR else SAME


def benchstat(base, head):
    difference = np.median(head) - np.median(base)
    return _word(difference) if rank_test(base, head) <= ALPHA and difference else SAME


def criterion(base, head):
    rng = np.random.default_rng(0)
    both, cut = np.concatenate([base, head]), len(base)
    mixed = both[rng.integers(0, len(both), (RESAMPLES, len(both)))]
    below = (_t(mixed[:, cut:], mixed[:, :cut]) < _t(head, base)).mean()
    if 2 * min(below, 1 - below) >= ALPHA:
        return SAME
    means = [
        side[rng.integers(0, len(side), (RESAMPLES, len(side)))].mean(1) for side in (base, head)
    ]
    low, high = np.quantile(means[1] / means[0] - 1, [ALPHA / 2, 1 - ALPHA / 2])
    return SLOWER if low > NOISE else FASTER if high < -NOISE else SAME


def nvbench(base, head):
    difference = head.mean() / base.mean() - 1
    noise = min(side.std(ddof=1) / side.mean() for side in (base, head))
    return SAME if abs(difference) <= noise else _word(difference)


RULES = {
    "asv compare": asv,
    "benchstat": benchstat,
    "criterion": criterion,
    "nvbench-compare": nvbench,
}


def replay(base, head):
    """{tool: its words} on times (cells, blocks) of both sides."""
    return {
        tool: np.array([rule(*sides) for sides in zip(base, head, strict=True)])
        for tool, rule in RULES.items()
    }


def rank_test(one, other):
    """The exact two-sided p of Mann and Whitney's U test; ties count for the side that has less."""
    pairs = one[:, None] - other
    less = min((pairs > 0).sum(), (pairs < 0).sum()) + (pairs == 0).sum()
    least = min(int(less), pairs.size // 2)
    ways = _ways(len(one), len(other))
    return min(1.0, 2 * sum(ways[: least + 1]) / sum(ways))


@cache
def _ways(one, other):
    """In how many orders of so many and so many each value of U comes up, from 0 on.

    The coefficients of the product of (1 - q^(other + i)) / (1 - q^i) for i up to `one`.
    """
    size = one * other + 1
    ways = [1] + [0] * (size - 1)
    for i in range(1, one + 1):
        for u in range(size - 1, other + i - 1, -1):
            ways[u] -= ways[u - other - i]
        for u in range(i, size):
            ways[u] += ways[u - i]
    return ways


def _word(difference):
    return SLOWER if difference > 0 else FASTER


def _t(one, other):
    """Welch's t statistic over the last axis."""
    parts = [side.var(axis=-1, ddof=1) / side.shape[-1] for side in (one, other)]
    return (one.mean(axis=-1) - other.mean(axis=-1)) / np.sqrt(sum(parts))

"""The rules of other tools: what each says where the answer follows from its description."""

from statistics import NormalDist

import numpy as np
import pytest

from benchmarks.comparing import others
from benchmarks.comparing.verdicts import FASTER, SAME, SLOWER

BLOCKS = np.array([NormalDist(1, 0.01).inv_cdf((k + 0.5) / 20) for k in range(20)])
SAID = {  # the head is slower by: 0.4 %, 1.5 %, 3 %, 20 %
    "asv compare": (SAME, SAME, SAME, SLOWER),
    "benchstat": (SAME, SLOWER, SLOWER, SLOWER),
    "criterion": (SAME, SAME, SLOWER, SLOWER),
    "nvbench-compare": (SAME, SLOWER, SLOWER, SLOWER),
}


@pytest.mark.parametrize("tool", others.RULES)
def test_each_rule_has_its_own_threshold(tool):
    """Of times that deviate by 1 %: criterion asks for 1 % and half an interval, 0.6 % here,
    asv for 10 %, nvbench for as much as these deviate, benchstat for what a rank test sees.
    """
    rule, head = others.RULES[tool], BLOCKS[::-1]
    assert tuple(rule(BLOCKS, head * (1 + x)) for x in (0.004, 0.015, 0.03, 0.2)) == SAID[tool]
    assert rule(BLOCKS, BLOCKS) == SAME
    assert rule(BLOCKS * 1.2, head) == FASTER


@pytest.mark.parametrize("blocks", [4, 20])
def test_the_rank_test_is_asvs(blocks):
    stats = pytest.importorskip("asv._stats")
    rng = np.random.default_rng(3)
    for shift in (0, 0.3, 1, 3):
        one, other = rng.normal(0, 1, blocks), rng.normal(shift, 1, blocks)
        _, p = stats.mann_whitney_u(list(one), list(other))
        assert others.rank_test(one, other) == pytest.approx(p)
    assert others.rank_test(one, one) == 1


def test_asv_needs_a_test_beside_the_factor():
    base = np.tile([1.0, 1.4], 10)
    head = base.copy()
    head[0] = 1.4  # its median is now 1.4 and the other's 1.2, which a rank test does not see
    assert np.median(head) / np.median(base) > others.FACTOR
    assert others.asv(base, head) == SAME


def test_false_alarms_of_each_on_equal_code():
    """Blocks of equal code with bursts: rules that test at 5 %, or not at all, alarm in many."""
    rng = np.random.default_rng(2)

    def side():
        return np.exp(rng.normal(0, 0.01, (200, 20)) + (rng.random((200, 20)) < 0.1) * 0.1)

    words = others.replay(side(), side())
    alarms = {tool: (words[tool] != SAME).sum() for tool in others.RULES}
    assert alarms["asv compare"] == 0
    assert 2 <= alarms["benchstat"] <= 20  # 5 % of 200 is 10

"""The simulator against formulas it does not know."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq

from coe.scheduling import make_policy
from coe.simulation.hardware import Hardware
from coe.simulation.node import serve
from coe.simulation.trace import make_trace, zipf

MACHINE = Hardware("m", 10, 1000, link=1e9, step_s=0.1, sequence_s=0.0, prefill_s=0.0)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_mean_wait_of_m_d_1(load: float) -> None:
    """One expert, one prompt at a time: Pollaczek-Khinchine, W = rho S / (2 (1 - rho))."""
    service_s = 1.0
    trace = make_trace("zipf", 30_000, 1, rate=load / service_s, output_tokens=(10, 10), seed=4)
    served = serve(trace, MACHINE, make_policy("samba-coe"), expert_bytes=1)
    assert np.mean(served.waits) == pytest.approx(load * service_s / (2 * (1 - load)), rel=0.08)


@pytest.mark.parametrize(("experts", "room", "exponent"), [(48, 8, 1.0), (150, 38, 0.8), (300, 30, 1.2)])
def test_hit_rate_of_lru(experts: int, room: int, exponent: float) -> None:
    """Che's approximation: sum over experts of p (1 - exp(-p T)), with T from sum (1 - exp(-p T)) = room."""
    law = zipf(experts, exponent)
    horizon = brentq(lambda t: np.sum(1 - np.exp(-law * t)) - room, 0.1, 1e6)
    expected = np.sum(law * (1 - np.exp(-law * horizon)))
    trace = make_trace("zipf", 20_000, experts, exponent=exponent, output_tokens=(1, 1), seed=2)
    served = serve(trace, replace(MACHINE, hbm_bytes=room), make_policy("samba-coe"), expert_bytes=1)
    assert 1 - served.loads / len(trace) == pytest.approx(expected, abs=0.015)


def test_makespan_of_a_batch() -> None:
    """All at once: full batches one after the other, each copy hidden or not as the machine says."""
    trace = make_trace("cyclic", 8, 2, output_tokens=(5, 5)).paced(0)
    machine = Hardware("m", 1, 10, link=0.5, step_s=1.0, sequence_s=0.5, prefill_s=0.25)
    served = serve(trace, machine, make_policy("coserve"), expert_bytes=1, max_batch=4)
    visit_s = 2.0 + 4 * 0.25 + 5 * (1.0 + 4 * 0.5)
    assert served.ended_at == pytest.approx(2 * visit_s)
    assert served.loads == 2

"""Simulates Table V of the SN40L paper (arXiv 2405.07518) and its capacity figures.

ASSUMPTIONS lists every assumption. The DGX machines' execution is calibrated on the two `expert only` rows, which
therefore agree by construction; the other rows are the test.
"""

from dataclasses import dataclass

from coe.scheduling import make_policy
from coe.simulation.hardware import DGX_A100, DGX_H100, LLAMA2_7B, SN40L_NODE, Hardware
from coe.simulation.node import serve
from coe.simulation.plan import dgx_room
from coe.simulation.trace import Trace, make_trace, names

EXPERTS = 150

ASSUMPTIONS = (
    "An expert is Llama2-7B in BF16: 13.476 GB. The router is another one, always in HBM.",
    "Links: 1 TB/s DDR to HBM on an SN40L node; 32 GB/s (A100) and 64 GB/s (H100) from host to GPU, as the paper says.",
    "SN40L decodes at 85 % of 8 x 1.8 TB/s; a prompt's prefill takes 40 ms (the paper gives no prompt length; from 35 "
    "to 60 ms every row stays within 15 %).",
    "DGX decode and prefill follow from Table V's `expert only` ratios at 20 and 200 tokens (calibrated, not tested).",
    "Router: one prefill and one token, once per batch, for the whole batch at the cost of one prompt.",
    "Each prompt wants an expert that is not in HBM; its copy and its run follow each other; prompts run one by one.",
    "DGX: 640 GB of HBM less the router's weights; 2 TB of host memory. SN40L node: 12 TB of DDR.",
    "A DGX holding all its experts keeps 5 % of its HBM for KV caches and workspace.",
)


@dataclass(frozen=True, slots=True)
class Row:
    """`calibrated`: agrees by construction, because the simulation is calibrated on it."""

    figure: str
    published: float
    simulated: float
    calibrated: bool = False

    @property
    def error(self) -> float:
        return self.simulated / self.published - 1


def router_s(machine: Hardware) -> float:
    return machine.prefill_s + machine.step_s


def overall_s(machine: Hardware, batch: int, tokens: int) -> float:
    """The router, then the batch's experts, each of which has to be copied into HBM."""
    trace = make_trace("cyclic", batch, EXPERTS, output_tokens=(tokens, tokens)).paced(0)
    served = serve(trace, machine, make_policy("samba-coe"), expert_bytes=LLAMA2_7B)
    return router_s(machine) + served.ended_at


def expert_s(machine: Hardware, tokens: int) -> float:
    return machine.run_s(1, 1, tokens)


def resident_experts(machine: Hardware) -> int:
    """The most experts that can be requested cyclically with none copied twice. Beyond this, latency jumps."""
    limit = machine.hbm_bytes // LLAMA2_7B + 4
    for experts in range(1, limit):
        called = names(experts) * 3
        trace = Trace([0.0] * len(called), called, [0] * len(called), [1] * len(called))
        beside_router = Hardware(
            machine.name, machine.hbm_bytes - LLAMA2_7B, machine.store_bytes, machine.link, 0.001, 0.0, 0.001
        )
        if serve(trace, beside_router, make_policy("samba-coe"), expert_bytes=LLAMA2_7B).loads > experts:
            return experts - 1
    return limit


def paper_rows() -> list[Row]:
    table = {
        ("overall, batch 8, 20 tokens", 8, 20): (6.6, 3.7),
        ("overall, batch 1, 20 tokens", 1, 20): (4.8, 2.8),
        ("overall, batch 8, 200 tokens", 8, 200): (4.2, 2.7),
        ("overall, batch 1, 200 tokens", 1, 200): (3.9, 2.6),
    }
    machines = ((DGX_A100, "A100"), (DGX_H100, "H100"))
    rows = [
        Row(f"{what}, against DGX {label}", published[index], overall_s(dgx, batch, tokens) / sn_s)
        for (what, batch, tokens), published in table.items()
        for sn_s in (overall_s(SN40L_NODE, batch, tokens),)
        for index, (dgx, label) in enumerate(machines)
    ]
    for tokens, published in ((20, (2.0, 1.5)), (200, (3.2, 2.3))):
        for index, (dgx, label) in enumerate(machines):
            ratio = expert_s(dgx, tokens) / expert_s(SN40L_NODE, tokens)
            rows.append(Row(f"expert only, {tokens} tokens, against DGX {label}", published[index], ratio, True))
    for published_switch, (dgx, label) in zip((31.0, 15.0), machines, strict=True):
        ratio = dgx.load_s(LLAMA2_7B) / SN40L_NODE.load_s(LLAMA2_7B)
        rows.append(Row(f"model switching time, against DGX {label}", published_switch, ratio))
    hosted = SN40L_NODE.store_bytes // LLAMA2_7B
    rows += (
        Row("experts beyond which a DGX's latency jumps", 50, resident_experts(DGX_A100)),
        Row("experts at which a DGX is out of memory", 150, DGX_A100.store_bytes // LLAMA2_7B + 1),
        Row("experts on one SN40L node", 850, hosted),
        Row("DGX nodes that hold 850 experts in HBM", 19, -(-850 // dgx_room(LLAMA2_7B))),
    )
    return rows

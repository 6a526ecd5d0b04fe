"""`coe simulate plan`: plans the capacity of a cluster and prints the figures."""

from dataclasses import asdict

from rich.table import Table

from coe.cli.console import err, out, print_json
from coe.simulation.plan import Wish, plan


def run(wish: Wish, node_hour: float, as_json: bool) -> None:
    """`node_hour`: the price of a node-hour; 0 if unknown."""
    with err.status("") as status:
        planned = plan(wish, lambda rate: status.update(f"{rate:.0f} prompts/s"))
    if as_json:
        print_json(asdict(planned) | {"nodes": wish.nodes, "experts": wish.experts, "node_hour": node_hour})
        return
    cost = "cost per million" if node_hour else "node hours per million"
    table = Table("prompts/s", "p50", "p99", "copies per prompt", cost, "executing", "copying", "keeps up")
    for found in planned.figures:
        table.add_row(
            f"{found.rate:.0f}",
            f"{found.p50_s:.3f} s",
            f"{found.p99_s:.3f} s",
            f"{found.loads_per_prompt:.2f}",
            f"{found.node_hours * (node_hour or 1):.1f}",
            f"{found.executing:.0%}",
            f"{found.copying:.0%}",
            "yes" if found.keeps_up else "no",
        )
    out.print(table)
    out.print(
        f"{wish.nodes} nodes hold up to {planned.holds} experts; {wish.experts} of them in HBM would take "
        f"{planned.dgx_nodes} DGX. Up to {planned.highest_rate:.0f} prompts/s p99 is at most {wish.p99_s:g} s; "
        f"beyond, {planned.breaks} is what breaks."
    )

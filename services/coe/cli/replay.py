"""`coe replay LOG`: replays a tier manager's event log, checking its state after every step."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from coe.cli.console import out, print_json
from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import event_log, profiles
from coe.memory_tier_manager.tiers import Tier


def command(
    log: Annotated[Path, typer.Argument(help="An event log, written by a manager with COE_TIERS_EVENT_LOG.")],
    expert: Annotated[str, typer.Option(help="Show only events of this expert.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Shows what happened to experts and leases, and why."""
    tiers, events = event_log.read(log)
    counts: Counter[str] = Counter()
    before = (tiers.ddr.bytes_in, tiers.hbm.bytes_in)
    began: float | None = None
    for event, now in events:
        began = now if began is None else began
        effects = tiers.handle(event, now)
        tiers.check_integrity()
        for effect in effects:
            counts.update(_counted(effect))
        shown = [effect for effect in effects if not isinstance(effect, fx.Changed)]
        if not shown or (expert and all(getattr(item, "expert", expert) != expert for item in (event, *shown))):
            continue
        line = {"t": round(now - began, 6), "event": repr(event), "effects": [repr(effect) for effect in shown]}
        if as_json:
            print_json(line)
        else:
            out.print(f"{line['t']:10.3f}  {line['event']}", markup=False, soft_wrap=True)
            for effect in shown:
                out.print(f"{'':12}-> {effect!r}", markup=False, soft_wrap=True)
    summary = {"hits": counts["hit"], "misses": counts["miss"], "loads": counts["load"], "evictions": counts["evicted"]}
    moves = profiles.moved(tiers.ddr.bytes_in - before[0], tiers.hbm.bytes_in - before[1])
    if as_json:
        print_json({"summary": summary, "moved": moves})
    else:
        out.print(", ".join(f"{count} {what}" for what, count in summary.items()), soft_wrap=True)
        out.print(profiles.told(moves), soft_wrap=True)


def _counted(effect: fx.Effect) -> list[str]:
    match effect:
        case fx.Grant():
            return ["hit" if effect.found_in is Tier.HBM else "miss"]
        case fx.StartCopy() if not effect.part_of:
            return ["load"]
        case fx.Evicted():
            return ["evicted"]
        case _:
            return []

"""`coe experts plan`: the memory that experts of given shapes need in each tier. No weights are read."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from coe.cli.console import out, print_json, whole
from coe.experts.hf_config import read_hf_config
from coe.experts.kv_format import KvFormat
from coe.experts.plan import ExpertPlan, fit, plan_expert
from coe.memory_tier_manager.profiles import PROFILES, TierProfile
from coe.memory_tier_manager.tiers import Tier
from coe.native import packing
from coe.platform.errors import ArtifactError

GB = 1e9


def plan(
    configs: Annotated[
        list[Path], typer.Argument(help="config.json files of Hugging Face models.", metavar="CONFIG...")
    ],
    weight_format: Annotated[str, typer.Option("--format", help="q4_k, q8_0, bf16 ...")] = "bf16",
    kv_format: Annotated[KvFormat, typer.Option("--kv", help="Format of the KV cache.")] = "f32",
    profile: Annotated[list[str], typer.Option(help="Hardware profile to plan for; may be repeated.")] = [  # noqa: B006
        "sn40l",
        "sn40l-node",
    ],
    hbm_bytes: Annotated[int, typer.Option(min=0, help="HBM bytes, overriding the profile's.")] = 0,
    ddr_bytes: Annotated[int, typer.Option(min=0, help="DDR bytes, overriding the profile's.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Show the memory that experts of each shape need in each tier, and how many fit. No weights are read."""
    if weight_format not in packing.FORMATS:
        raise ArtifactError(f"unknown format {weight_format!r}: choose from {', '.join(packing.FORMATS)}")
    if unknown := set(profile) - set(PROFILES):
        raise ArtifactError(f"unknown profile {unknown.pop()!r}: choose from {', '.join(PROFILES)}")
    # Imported late: some images lack it but still run the other `coe experts` commands.
    from coe.experts.hf_source import read_json

    rows = []
    for path in configs:
        needs = plan_expert(read_hf_config(read_json(path)), weight_format, kv_format)
        for name in profile:
            tiers = PROFILES[name]
            facts = _facts(needs, tiers, hbm_bytes or tiers.hbm_bytes, ddr_bytes or tiers.ddr_bytes)
            rows.append({"config": str(path), "format": weight_format, "kv_format": kv_format, **facts})
    if not as_json:
        out.print(_table(rows))
        return
    for row in rows:
        print_json(row)


def _facts(needs: ExpertPlan, tiers: TierProfile, hbm_bytes: int, ddr_bytes: int) -> dict[str, object]:
    weights = needs.weights_bytes
    return {
        "parameters": needs.parameters,
        "disk_bytes": weights,
        "ddr_bytes": weights,
        "hbm_bytes": weights,
        "kv_bytes_per_token": needs.kv_bytes_per_token,
        "kv_bytes_full_context": needs.kv_bytes_full_context,
        "profile": tiers.name,
        **asdict(fit(needs, hbm_bytes, ddr_bytes)),
        "modelled_switch_s": tiers.modelled_copy_s(Tier.DDR, weights),
    }


def _table(rows: list[dict[str, object]]) -> Table:
    columns = (
        whole("expert"),
        "parameters",
        "GB per tier",
        "KV kB per token",
        "KV GB full context",
        "tiers",
        "fit in DDR",
    )
    table = Table(
        *columns, "fit in HBM", "KV tokens in remaining HBM", "switch", title=f"weights in {rows[0]['format']}"
    )
    for row in rows:
        path = Path(str(row["config"]))
        table.add_row(
            path.parent.name if path.stem == "config" else path.stem,
            f"{_number(row, 'parameters') / 1e9:.1f}B",
            f"{_number(row, 'hbm_bytes') / GB:.1f}",
            f"{_number(row, 'kv_bytes_per_token') / 1e3:.0f}",
            f"{_number(row, 'kv_bytes_full_context') / GB:.1f}",
            str(row["profile"]),
            f"{_number(row, 'ddr_slots'):.0f}",
            f"{_number(row, 'hbm_slots'):.0f}",
            f"{_number(row, 'kv_tokens_beside'):,.0f}",
            f"{_number(row, 'modelled_switch_s'):.3f} s",
        )
    return table


def _number(row: dict[str, object], key: str) -> float:
    value = row[key]
    assert isinstance(value, int | float)
    return float(value)

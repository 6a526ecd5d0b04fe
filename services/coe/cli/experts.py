"""`coe experts`: the bundles on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from coe.cli.console import out, print_json
from coe.cli.import_ import summary
from coe.experts.bundle import Bundle
from coe.experts.catalogue import Catalogue
from coe.experts.hf_config import read_hf_config
from coe.experts.hf_source import read_json
from coe.experts.plan import plan_expert
from coe.memory_tier_manager.profiles import PROFILES
from coe.memory_tier_manager.tiers import Tier
from coe.native import packing
from coe.platform.errors import ArtifactError
from coe.platform.settings import CoreSettings

app = typer.Typer(no_args_is_help=True)

ExpertId = Annotated[str, typer.Argument(help="Id of the expert.")]
AsJson = Annotated[bool, typer.Option("--json", help="One object a line.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """All experts that are hosted here."""
    for bundle in _catalogue().list():
        _print(bundle, as_json)


@app.command()
def show(expert_id: ExpertId) -> None:
    """The manifest of an expert, without its tensor table, as JSON."""
    bundle = _catalogue().get(expert_id)
    facts = bundle.manifest.model_dump(mode="json", exclude={"tensors", "checksums"})
    print_json({**facts, "layout_key": bundle.layout_key, "path": str(bundle.path)})


@app.command()
def verify(expert_id: ExpertId, as_json: AsJson = False) -> None:
    """Reads a whole bundle and compares it with its checksums."""
    bundle = _catalogue().get(expert_id)
    bundle.verify()
    if as_json:
        print_json({"id": bundle.id, "verified_bytes": bundle.weights_bytes})
    else:
        out.print(f"{bundle.id}: {bundle.weights_bytes:,} bytes are as they were imported")


@app.command()
def remove(expert_id: ExpertId) -> None:
    """Deletes an expert. Replicas that share its weights keep them."""
    _catalogue().remove(expert_id)


@app.command()
def replicate(
    expert_id: ExpertId,
    count: Annotated[int, typer.Option(min=1, max=4096, help="How many replicas there shall be.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Makes ID@replica-1, ID@replica-2, ...: the same weights under other ids, at no cost in disk space."""
    for number in range(1, count + 1):
        _print(_catalogue().replicate(expert_id, number), as_json)


@app.command()
def plan(
    config: Annotated[Path, typer.Argument(help="config.json of a Hugging Face model.")],
    weight_format: Annotated[str, typer.Option("--format", help="q4_k, q8_0, bf16 ...")] = "bf16",
    profile: Annotated[str, typer.Option(help="Tiers to plan for: sn40l or sn40l-node.")] = "sn40l",
    hbm_bytes: Annotated[int, typer.Option(help="HBM instead of the profile's.")] = 0,
    ddr_bytes: Annotated[int, typer.Option(help="DDR instead of the profile's.")] = 0,
    as_json: AsJson = False,
) -> None:
    """What an expert of this shape takes in each tier, and how many of them fit. No weights are read."""
    if weight_format not in packing.FORMATS:
        raise ArtifactError(f"format {weight_format!r} is unknown; these are: {', '.join(packing.FORMATS)}")
    if profile not in PROFILES:
        raise ArtifactError(f"profile {profile!r} is unknown; these are: {', '.join(PROFILES)}")
    tiers = PROFILES[profile]
    needs = plan_expert(read_hf_config(read_json(config)), weight_format)
    hbm, ddr = hbm_bytes or tiers.hbm_bytes, ddr_bytes or tiers.ddr_bytes
    facts: dict[str, object] = {
        "config": str(config),
        "format": weight_format,
        "parameters": needs.parameters,
        "disk_bytes": needs.weights_bytes,
        "ddr_bytes": needs.weights_bytes,
        "hbm_bytes": needs.weights_bytes,
        "kv_bytes_per_token": needs.kv_bytes_per_token,
        "kv_bytes_full_context": needs.kv_bytes_full_context,
        "profile": tiers.name,
        "ddr_slots": ddr // needs.weights_bytes,
        "hbm_slots": hbm // needs.weights_bytes,
        "modelled_switch_s": tiers.modelled_copy_s(Tier.DDR, needs.weights_bytes),
    }
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        out.print(f"{name.replace('_', ' '):22} {value:,}" if isinstance(value, int) else f"{name:22} {value}")


def _catalogue() -> Catalogue:
    return Catalogue(CoreSettings().experts_dir)


def _print(bundle: Bundle, as_json: bool) -> None:
    if not as_json:
        out.print(summary(bundle), soft_wrap=True)
        return
    manifest = bundle.manifest
    print_json(
        {
            "id": bundle.id,
            "name": manifest.name,
            "architecture": manifest.config.architecture,
            "parameters": manifest.parameters,
            "quantisation": manifest.quantisation,
            "weights_bytes": bundle.weights_bytes,
            "licence": manifest.licence,
            "replica_of": manifest.replica_of,
            "synthetic": manifest.synthetic,
        }
    )

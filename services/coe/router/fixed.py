"""Sends every prompt to one category, for load tests of everything but the encoder. Refused unless allowed."""

from collections.abc import Sequence

from coe._proto import common_pb2
from coe.platform.errors import ArtifactError


class FixedCategory:
    version = "fixed"

    def __init__(self, category: str, *, allowed: bool) -> None:
        """Raises ArtifactError unless `allowed`."""
        if not allowed:
            raise ArtifactError("a fixed category is for load tests: set COE_ROUTER_ALLOW_FIXED=1", category=category)
        self._category = category

    @property
    def categories(self) -> tuple[str, ...]:
        return (self._category,)

    def classify(self, texts: Sequence[str]) -> list[common_pb2.RoutingDecision]:
        """One decision per text."""
        return [
            common_pb2.RoutingDecision(category=self._category, confidence=1.0, router_version=self.version)
            for _ in texts
        ]

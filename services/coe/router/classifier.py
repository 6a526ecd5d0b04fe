"""Turns texts into routing decisions by chaining encoder, model and policy. Blocks: call it in a thread."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from coe._proto import common_pb2
from coe.encoder import Encoder, EncoderSpec, open_encoder
from coe.platform.errors import ArtifactError
from coe.router import artifact as artifacts
from coe.router.artifact import Artifact
from coe.router.features import lexical
from coe.router.language import language
from coe.router.model import Features, Scores
from coe.router.policy import Decision, decide, empty
from coe.router.settings import RouterSettings


class Classifier:
    """An artifact and the encoder it was trained with. Raises ArtifactError when their fingerprints differ."""

    def __init__(self, artifact: Artifact, encoder: Encoder) -> None:
        if artifact.encoder.fingerprint != encoder.fingerprint:
            raise ArtifactError(
                "The router artifact was trained with another encoder: name that one's folder "
                "(COE_ROUTER_ENCODER, --encoder), or train it again",
                trained_with=artifact.encoder.fingerprint,
                encoder=encoder.fingerprint,
            )
        self._artifact = artifact
        self._encoder = encoder

    @property
    def artifact(self) -> Artifact:
        return self._artifact

    @property
    def version(self) -> str:
        return self._artifact.version

    @property
    def categories(self) -> tuple[str, ...]:
        return self._artifact.model.categories

    def classify(self, texts: Sequence[str]) -> list[common_pb2.RoutingDecision]:
        """One decision per text, in order."""
        filled = [index for index, text in enumerate(texts) if text.strip()]
        decisions = [empty()] * len(texts)
        if filled:
            model = self._artifact.model
            scores = self.scores([texts[index] for index in filled])
            for row, index in enumerate(filled):
                decisions[index] = decide(
                    model.categories,
                    scores.probabilities[row].tolist(),
                    float(scores.out_of_distribution[row]),
                    self._artifact.thresholds,
                )
        return [self._message(text, decision) for text, decision in zip(texts, decisions, strict=True)]

    def scores(self, texts: Sequence[str]) -> Scores:
        """Raw scores of non-empty texts."""
        embeddings = self._encoder.encode(texts)
        novelty = np.stack([self._artifact.novelty.features(text) for text in texts])
        return self._artifact.model.scores(Features(embeddings, [lexical(text) for text in texts], novelty))

    def _message(self, text: str, decision: Decision) -> common_pb2.RoutingDecision:
        return common_pb2.RoutingDecision(
            category=decision.category,
            confidence=decision.confidence,
            distribution=[
                common_pb2.CategoryScore(category=category, probability=probability)
                for category, probability in decision.distribution
            ],
            fallback_reason=decision.fallback_reason,
            router_version=self.version,
            out_of_distribution_score=decision.out_of_distribution,
            language=language(text),
        )


def open_classifier(path: Path, *, encoder_folder: Path | None = None, threads: int = 1) -> Classifier:
    """Opens the artifact at `path` with its encoder, by default the one in COE_ROUTER_ENCODER. Raises ArtifactError."""
    artifact = artifacts.load(path)
    kind = artifact.encoder
    folder = encoder_folder or RouterSettings().encoder
    spec = EncoderSpec(folder, kind.max_tokens, kind.tail_tokens, kind.int8, threads, kind.layers)
    return Classifier(artifact, open_encoder(spec))

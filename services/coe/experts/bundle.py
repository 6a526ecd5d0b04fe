"""An expert on disk: a directory with manifest.json, tokenizer.json and weights.coe."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from coe.experts.manifest import Manifest, read_manifest
from coe.platform.errors import ArtifactError, ChecksumMismatch

MANIFEST, TOKENIZER, WEIGHTS = "manifest.json", "tokenizer.json", "weights.coe"


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest was read. Its weights are only opened to be loaded or verified."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises ArtifactError when the directory is not a valid bundle."""
        manifest = read_manifest(path / MANIFEST)
        try:
            size = (path / WEIGHTS).stat().st_size
        except OSError as error:
            raise ArtifactError(f"bundle {path} has no {WEIGHTS}") from error
        if size != manifest.weights_bytes:
            raise ArtifactError(f"{path / WEIGHTS} has {size} bytes, but its manifest says {manifest.weights_bytes}")
        return cls(path, manifest)

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def weights_path(self) -> Path:
        return self.path / WEIGHTS

    @property
    def weights_bytes(self) -> int:
        return self.manifest.weights_bytes

    @property
    def tokenizer_path(self) -> Path:
        return self.path / TOKENIZER

    @cached_property
    def layout_key(self) -> str:
        return self.manifest.layout_key

    @cached_property
    def weights_tag(self) -> int:
        """Identifies the bytes of its weights: a 64-bit hash of its id and their checksums, never 0."""
        facts = f"{self.id} {self.weights_bytes} {list(self.manifest.checksums)}"
        return int.from_bytes(hashlib.blake2b(facts.encode(), digest_size=8).digest(), "little") | 1

    @cached_property
    def identity(self) -> str:
        """Distinguishes it from all other bundles with the same id: covers weights, layout, tokenizer and chat
        template."""
        return hashlib.sha256(self.manifest.model_dump_json().encode()).hexdigest()[:32]

    def verify(self) -> None:
        """Reads all files and compares them with the manifest. Raises ChecksumMismatch."""
        from coe.native import checksum  # the native library is only needed here

        manifest = self.manifest
        with self.weights_path.open("rb") as file:
            for index, expected in enumerate(manifest.checksums):
                if checksum(file.read(manifest.chunk_bytes)) != expected:
                    at = index * manifest.chunk_bytes
                    raise ChecksumMismatch(f"{self.weights_path} is damaged at byte {at}", expert_id=self.id, offset=at)
        if tokenizer_digest(self.tokenizer_path.read_bytes()) != manifest.tokenizer.sha256:
            raise ChecksumMismatch(f"{self.tokenizer_path} differs from its manifest", expert_id=self.id)


def tokenizer_digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

"""manifest.json of a bundle: everything known about an expert without reading its weights."""

import hashlib
import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from coe.experts.config import ModelConfig
from coe.experts.invalid import first_problem
from coe.native.packing import packed_nbytes
from coe.platform.errors import ArtifactError

CHUNK_BYTES = 4 << 20
# Version of the packed layout (coe.native.packing) and the order of tensors. Weights of another version are not read,
# and unfinished imports of another version start over.
PACKING = 2
MAX_MANIFEST_BYTES = 64 << 20
# A name, optionally followed by what distinguishes this copy: smollm2-135m, smollm2-135m@replica-2.
ID_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,79}(@[a-z0-9][a-z0-9.-]{0,39})?$"


class PlacedTensor(BaseModel):
    """A tensor's place in weights.coe (bytes) and its shape. `format` names a layout of coe.native.packing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    offset: int = Field(ge=0)
    nbytes: int = Field(gt=0)
    format: str
    rows: int = Field(gt=0)
    cols: int = Field(gt=0)

    @property
    def is_whole(self) -> bool:
        """Whether `nbytes` is the size of a vector (never packed) or packed matrix of this shape and format. Raises
        ValueError for an unknown format."""
        of_vector = 4 * self.cols if self.format == "f32" and self.rows == 1 else 0
        return self.nbytes in (of_vector, packed_nbytes(self.format, self.rows, self.cols))


class TokenizerFacts(BaseModel):
    """How prompts are formatted for this expert, and which tokens end an answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chat_template: str
    bos_id: int | None
    add_bos: bool
    eos_ids: tuple[int, ...]
    sha256: str


class Manifest(BaseModel):
    """The whole file. Unknown versions and fields are rejected: such a bundle must be imported again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    packing: int = 1
    id: str = Field(pattern=ID_PATTERN)
    name: str
    # Where the weights came from: a file name, or a package and its version.
    source: str
    fingerprint: str
    licence: str
    # Altered or randomly generated weights: such an expert is for tests and benchmarks only.
    synthetic: bool = False
    # Of a replica: the bundle whose weights it shares.
    replica_of: str | None = None
    parameters: int = Field(gt=0)
    # The format of most parameters.
    quantisation: str
    config: ModelConfig
    tokenizer: TokenizerFacts
    # In execution order.
    tensors: dict[str, PlacedTensor]
    weights_bytes: int = Field(gt=0)
    chunk_bytes: int = Field(gt=0)
    checksums: tuple[int, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.packing > PACKING:
            raise ValueError(f"its weights have packing version {self.packing}, which is newer than {PACKING}")
        if self.packing != PACKING:
            raise ValueError(f"its weights have packing version {self.packing}, not {PACKING}: import it again")
        placed = list(self.tensors.values())
        for name, tensor in self.tensors.items():
            if not tensor.is_whole:
                raise ValueError(f"{name} has {tensor.nbytes} bytes, which does not match its format and shape")
        if not placed or any(one.offset + one.nbytes > two.offset for one, two in pairwise(placed)):
            raise ValueError("tensors overlap or are missing")
        if placed[-1].offset + placed[-1].nbytes > self.weights_bytes:
            raise ValueError("a tensor extends past the end of weights.coe")
        if self.chunk_bytes != CHUNK_BYTES:
            raise ValueError(f"chunk_bytes is {self.chunk_bytes}, not {CHUNK_BYTES}")
        if len(self.checksums) != -(-self.weights_bytes // self.chunk_bytes):
            raise ValueError("the number of checksums does not match the number of chunks")
        return self

    @property
    def layout_key(self) -> str:
        """Equal for experts that run in the same graph: same configuration, same tensors at the same offsets."""
        digest = hashlib.sha256(self.config.model_dump_json().encode())
        for name, tensor in self.tensors.items():
            digest.update(f"{name} {tensor.format} {tensor.rows} {tensor.cols} {tensor.offset}\n".encode())
        return digest.hexdigest()[:32]

    @property
    def weights_digest(self) -> str:
        """Equal for bundles of the same weights in the same layout."""
        return hashlib.sha256(f"{self.layout_key} {self.checksums}".encode()).hexdigest()


def is_outdated(path: Path) -> bool:
    """Whether this is the manifest of a bundle that only needs repacking."""
    return has_old_packing(raw_manifest(path))


def has_old_packing(facts: Mapping[str, Any]) -> bool:
    packing = facts.get("packing", 1)
    return bool(facts) and isinstance(packing, int) and packing < PACKING


def raw_manifest(path: Path) -> dict[str, Any]:
    """A manifest's content without validation; empty when it can't be read at all."""
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def read_manifest(path: Path) -> Manifest:
    """Raises ArtifactError."""
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ArtifactError(f"{path} is too large to be a manifest")
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"can't read {path}: {error.strerror}") from error
    except ValidationError as error:
        raise ArtifactError(f"{path} is not a valid manifest: {first_problem(error)}") from error

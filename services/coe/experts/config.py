"""The configuration of a decoder-only architecture: dimensions, and switches for what differs between families.

The families differ in few places, so one frozen record describes Llama, Qwen2 and 3, Gemma 2 and 3; the graph is built
from it alone. The switches come from the models' technical reports and public configuration files.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

Activation = Literal["silu", "gelu"]

# Limits of the attention kernels (OPS.md).
MAX_HEAD_DIM = 1024
HEAD_DIM_STEP = 16
# Far beyond any real model: bounds what a hostile file may claim.
MAX_SIZE = 1 << 24
Size = Annotated[PositiveInt, Field(le=MAX_SIZE)]


class ModelConfig(BaseModel):
    """One architecture and shape. Every field affects the graph; none depends on one expert's weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    architecture: Literal["llama", "qwen2", "qwen3", "gemma2", "gemma3"]
    layers: PositiveInt = Field(le=1024)
    hidden: Size
    heads: Size
    kv_heads: Size
    head_dim: PositiveInt = Field(le=MAX_HEAD_DIM, multiple_of=HEAD_DIM_STEP)
    feed_forward: Size
    vocabulary: Size
    context_length: PositiveInt = Field(le=1 << 40)
    norm_epsilon: float
    rope_theta: PositiveFloat
    # How many of a head's dimensions rotate.
    rope_dim: PositiveInt = Field(multiple_of=2)
    # Divisors of the rotary frequencies, one per pair: Llama 3.1's scaling, or Gemma 3's linear one. Empty: no scaling.
    rope_factors: tuple[PositiveFloat, ...] = ()
    # Rotary base of the layers with a sliding window if it differs (Gemma 3), else 0.
    local_rope_theta: NonNegativeFloat = 0.0
    # Tokens that a token of a local layer attends to, itself included. 0: all layers attend to all tokens.
    window: int = Field(default=0, ge=0, le=1 << 40)
    # Layers per group, of which the last is global. 1 with a window: all layers are local.
    window_pattern: PositiveInt = 1
    attention_scale: float
    # tanh soft caps of Gemma 2. 0: none.
    attention_softcap: float = 0.0
    logit_softcap: float = 0.0
    # Gemma multiplies embeddings by the square root of the width.
    embedding_scale: float = 1.0
    activation: Activation = "silu"
    qkv_bias: bool = False
    qk_norm: bool = False
    # A second RMSNorm after attention and after the feed-forward block, before the residual is added.
    post_norms: bool = False
    # The output matrix is the embedding.
    tied: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} attention heads can't be divided evenly among {self.kv_heads} KV heads")
        if self.rope_dim > self.head_dim:
            raise ValueError(f"{self.rope_dim} rotary dimensions exceed the head dimension {self.head_dim}")
        if self.rope_factors and len(self.rope_factors) != self.rope_dim // 2:
            raise ValueError(
                f"there are {len(self.rope_factors)} rotary factors for {self.rope_dim // 2} pairs of dimensions"
            )
        return self

    @property
    def query_rows(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_rows(self) -> int:
        return self.kv_heads * self.head_dim

    def is_local(self, layer: int) -> bool:
        """Whether this layer has the sliding window."""
        return self.window > 0 and (self.window_pattern == 1 or (layer + 1) % self.window_pattern != 0)

    def layer_rope_theta(self, layer: int) -> float:
        return self.local_rope_theta if self.local_rope_theta and self.is_local(layer) else self.rope_theta

    def layer_rope_factors(self, layer: int) -> tuple[float, ...]:
        """Rotary factors of a layer. Local layers of a model with two rotary bases are never scaled."""
        return () if self.local_rope_theta and self.is_local(layer) else self.rope_factors

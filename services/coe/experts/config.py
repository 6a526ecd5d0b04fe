"""What a decoder-only architecture needs to know about itself: dimensions and the switches between families.

The families differ in few places, so one frozen record describes Llama, Qwen2 and 3, Gemma 2 and 3; the graph is built
from it alone. Sources of the switches: the models' reports and their public configuration files.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

Activation = Literal["silu", "gelu"]

# What attention computes (OPS.md).
MAX_HEAD_DIM = 1024
HEAD_DIM_STEP = 16
# Far beyond any model there is, and what a hostile file may claim at most.
MAX_SIZE = 1 << 24
Size = Annotated[PositiveInt, Field(le=MAX_SIZE)]


class ModelConfig(BaseModel):
    """One architecture and shape. Everything in it changes the graph, nothing in it belongs to one expert's weights."""

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
    # Divisors of the rotary frequencies, one for each pair: Llama 3.1's scaling, or Gemma 3's linear one. Empty: none.
    rope_factors: tuple[PositiveFloat, ...] = ()
    # Base of the layers with a sliding window where it differs (Gemma 3), else 0.
    local_rope_theta: NonNegativeFloat = 0.0
    # Tokens that a local layer sees, itself included. 0: every layer sees all.
    window: int = Field(default=0, ge=0, le=1 << 40)
    # One layer in so many is global: the last of each group. 1 with a window: all are local.
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
            raise ValueError(f"{self.heads} heads can't share {self.kv_heads} of keys and values evenly")
        if self.rope_dim > self.head_dim:
            raise ValueError(f"{self.rope_dim} dimensions of {self.head_dim} can't rotate")
        if self.rope_factors and len(self.rope_factors) != self.rope_dim // 2:
            raise ValueError(
                f"{len(self.rope_factors)} rotary factors are not one for each of {self.rope_dim // 2} pairs"
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
        """Local layers of a model with two rotary bases are never scaled."""
        return () if self.local_rope_theta and self.is_local(layer) else self.rope_factors

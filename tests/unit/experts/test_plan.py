"""Memory plans of the paper's five experts, from the dimensions in their public configuration files."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coe.cli.experts import app
from coe.experts.hf_config import read_hf_config
from coe.experts.plan import plan_expert

LLAMA_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
QWEN2 = {
    "model_type": "qwen2",
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "rope_theta": 1e6,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "sliding_window": 131072,
}
GEMMA2 = {
    "model_type": "gemma2",
    "vocab_size": 256000,
    "max_position_embeddings": 8192,
    "rope_theta": 10000.0,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "sliding_window": 4096,
}


def shape(layers: int, hidden: int, heads: int, kv_heads: int, feed_forward: int) -> dict[str, int]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": feed_forward,
    }


# name -> (config, parameters in billions, KV values a token).
EXPERTS = {
    "Qwen2-7B-Instruct": (QWEN2 | shape(28, 3584, 28, 4, 18944), 7.62, 28 * 2 * 4 * 128),
    "Qwen2-72B-Instruct": (QWEN2 | shape(80, 8192, 64, 8, 29568), 72.7, 80 * 2 * 8 * 128),
    "gemma-2-9b-it": (
        GEMMA2 | shape(42, 3584, 16, 8, 14336) | {"head_dim": 256, "query_pre_attn_scalar": 256},
        9.24,
        42 * 2 * 8 * 256,
    ),
    "gemma-2-27b-it": (
        GEMMA2 | shape(46, 4608, 32, 16, 36864) | {"head_dim": 128, "query_pre_attn_scalar": 144},
        27.2,
        46 * 2 * 16 * 128,
    ),
    "Llama-3.1-70B-Instruct": (
        {"model_type": "llama", "vocab_size": 128256, "max_position_embeddings": 131072, "rope_theta": 500000.0}
        | {"rope_scaling": LLAMA_ROPE, "tie_word_embeddings": False}
        | shape(80, 8192, 64, 8, 28672),
        70.6,
        80 * 2 * 8 * 128,
    ),
}


@pytest.mark.parametrize("name", EXPERTS)
def test_plans_of_the_papers_experts(name: str) -> None:
    document, billions, kv_values = EXPERTS[name]
    plan = plan_expert(read_hf_config(document), "bf16")
    assert plan.parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert plan.weights_bytes == pytest.approx(2 * plan.parameters, rel=0.001)
    assert plan.kv_bytes_per_token == 4 * kv_values
    four_bits = plan_expert(read_hf_config(document), "q4_k")
    assert 4.4 / 16 < four_bits.weights_bytes / plan.weights_bytes < 6.5 / 16


def test_switches_of_the_families_reach_the_config() -> None:
    large = read_hf_config(EXPERTS["gemma-2-27b-it"][0])
    assert large.attention_scale == pytest.approx(144**-0.5)
    assert (large.window, large.window_pattern, large.is_local(0), large.is_local(1)) == (4096, 2, True, False)
    qwen = read_hf_config(EXPERTS["Qwen2-7B-Instruct"][0])
    assert qwen.qkv_bias
    assert not qwen.tied
    assert qwen.window == 0


def test_the_command_says_what_fits(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(EXPERTS["Qwen2-7B-Instruct"][0]))
    result = CliRunner().invoke(app, ["plan", str(path), "--profile", "sn40l", "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.output)
    assert facts["hbm_slots"] == 64 * 2**30 // facts["hbm_bytes"] == 4
    assert facts["ddr_slots"] > 100
    assert facts["modelled_switch_s"] == pytest.approx(facts["hbm_bytes"] / 200e9)

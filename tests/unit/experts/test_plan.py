"""Memory plans of the paper's five experts (arXiv 2412.01868), from their public configuration files."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coe.cli.experts import app
from coe.experts.config import ModelConfig
from coe.experts.hf_config import read_hf_config
from coe.experts.plan import Fit, fit, plan_expert

CONFIGS = Path(__file__).parent / "configs"
# name -> (parameters in billions, KV values a token).
EXPERTS = {
    "Qwen2-7B-Instruct": (7.62, 28 * 2 * 4 * 128),
    "Qwen2-72B-Instruct": (72.7, 80 * 2 * 8 * 128),
    "gemma-2-9b-it": (9.24, 42 * 2 * 8 * 256),
    "gemma-2-27b-it": (27.2, 46 * 2 * 16 * 128),
    "Llama-3.1-70B-Instruct": (70.6, 80 * 2 * 8 * 128),
}
GIB = 2**30


def config(name: str) -> ModelConfig:
    return read_hf_config(json.loads((CONFIGS / f"{name}.json").read_text()))


@pytest.mark.parametrize("name", EXPERTS)
def test_plans_of_the_papers_experts(name: str) -> None:
    billions, kv_values = EXPERTS[name]
    plan = plan_expert(config(name), "bf16")
    assert plan.parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert plan.weights_bytes == pytest.approx(2 * plan.parameters, rel=0.001)
    assert plan.kv_bytes_per_token == 4 * kv_values
    assert plan_expert(config(name), "bf16", "f16").kv_bytes_per_token == 2 * kv_values
    scales = kv_values // config(name).head_dim  # one for a head's keys, one for its values
    assert plan_expert(config(name), "bf16", "i8").kv_bytes_per_token == kv_values + 4 * scales
    four_bits = plan_expert(config(name), "q4_k")
    assert 4.4 / 16 < four_bits.weights_bytes / plan.weights_bytes < 6.5 / 16


def test_switches_of_the_families_reach_the_config() -> None:
    large = config("gemma-2-27b-it")
    assert large.attention_scale == pytest.approx(144**-0.5)
    assert (large.window, large.window_pattern, large.is_local(0), large.is_local(1)) == (4096, 2, True, False)
    assert (large.attention_softcap, large.logit_softcap, large.post_norms) == (50.0, 30.0, True)
    qwen = config("Qwen2-7B-Instruct")
    assert qwen.qkv_bias
    assert not qwen.tied
    assert qwen.window == 0
    llama = config("Llama-3.1-70B-Instruct")
    assert (llama.rope_factors[0], llama.rope_factors[-1]) == (1.0, 8.0)


def test_what_is_left_beside_the_weights_is_for_keys_and_values() -> None:
    plan = plan_expert(config("Qwen2-7B-Instruct"), "bf16")
    weights = plan.weights_bytes
    assert fit(plan, 64 * GIB, 1536 * GIB) == Fit(
        ddr_slots=1536 * GIB // weights,
        hbm_slots=64 * GIB // weights,
        kv_tokens_beside=(64 * GIB % weights) // plan.kv_bytes_per_token,
    )
    assert fit(plan, weights - 1, 0) == Fit(0, 0, 0)


def run(*arguments: str) -> list[dict[str, object]]:
    result = CliRunner().invoke(app, ["plan", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.output.splitlines()]


def test_the_command_says_what_fits_a_socket_and_a_node() -> None:
    lines = run(*(str(CONFIGS / f"{name}.json") for name in EXPERTS))
    slots = {(Path(str(line["config"])).stem, line["profile"]): line["hbm_slots"] for line in lines}
    assert slots == {
        ("Qwen2-7B-Instruct", "sn40l"): 4,
        ("Qwen2-7B-Instruct", "sn40l-node"): 36,
        ("Qwen2-72B-Instruct", "sn40l"): 0,
        ("Qwen2-72B-Instruct", "sn40l-node"): 3,
        ("gemma-2-9b-it", "sn40l"): 3,
        ("gemma-2-9b-it", "sn40l-node"): 29,
        ("gemma-2-27b-it", "sn40l"): 1,
        ("gemma-2-27b-it", "sn40l-node"): 10,
        ("Llama-3.1-70B-Instruct", "sn40l"): 0,
        ("Llama-3.1-70B-Instruct", "sn40l-node"): 3,
    }
    assert all(int(str(line["ddr_slots"])) >= 11 for line in lines)
    for line in lines:
        rate = {"sn40l": 200e9, "sn40l-node": 1e12}[str(line["profile"])]
        assert line["modelled_switch_s"] == pytest.approx(float(str(line["hbm_bytes"])) / rate)


def test_budgets_of_ones_own() -> None:
    path = str(CONFIGS / "Qwen2-7B-Instruct.json")
    (line,) = run(path, "--profile", "host", "--hbm-bytes", str(40 * GIB), "--ddr-bytes", str(80 * GIB))
    assert (line["hbm_slots"], line["ddr_slots"], line["modelled_switch_s"]) == (2, 5, 0.0)


def test_people_get_a_table() -> None:
    result = CliRunner().invoke(app, ["plan", *(str(CONFIGS / f"{name}.json") for name in EXPERTS)])
    assert result.exit_code == 0, result.output
    assert "gemma-2-27b-it" in result.output
    assert "sn40l-node" in result.output


@pytest.mark.parametrize("arguments", [("--format", "q3"), ("--profile", "moon"), ("--kv", "f8")])
def test_unknown_words_are_refused(arguments: tuple[str, str]) -> None:
    result = CliRunner().invoke(app, ["plan", str(CONFIGS / "gemma-2-9b-it.json"), *arguments])
    assert result.exit_code != 0

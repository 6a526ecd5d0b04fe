"""What a real expert's answers count: tokens that nothing cut short, and those of prompts that began alike."""

from coe.experts.bundle import Bundle
from coe.experts.conversation import Conversation
from coe.experts.sampling_params import SamplingParams
from coe.experts.sequence import Emission
from coe.experts.single import Hosted

BLOCK_TOKENS = 16


def answer(hosted: Hosted, sampling: SamplingParams) -> Emission:
    hosted.runner.add("r", Conversation.of("What is two plus two? Say the number alone."), sampling)
    while True:
        for emission in hosted.runner.step(hosted.lease):
            if emission.finish_reason is not None:
                return emission


def test_lengths_of_answers_and_what_of_a_prompt_was_known(smollm2_bundle: Bundle) -> None:
    with Hosted.load(smollm2_bundle, threads=2, guesses=3) as hosted:
        ended = answer(hosted, SamplingParams(max_tokens=96))
        fixed = answer(hosted, SamplingParams(max_tokens=96, ignore_eos=True))
    assert ended.finish_reason == "stop"
    assert (fixed.finish_reason, fixed.completion_tokens) == ("length", 96)
    assert fixed.final_text.startswith(ended.final_text)
    assert "<|im_end|>" not in fixed.final_text
    whole_blocks = (fixed.prompt_tokens - 1) // BLOCK_TOKENS * BLOCK_TOKENS
    assert (ended.cached_tokens, fixed.cached_tokens) == (0, whole_blocks)
    assert whole_blocks > 0

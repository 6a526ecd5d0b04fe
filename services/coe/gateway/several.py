"""Requests for several answers: one prompt per answer, all followed and cancelled together."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from starlette.responses import JSONResponse, Response

from coe._proto.events_pb2 import PromptCompleted, PromptSubmitted
from coe.client.events import Completed
from coe.gateway.decision import decision_headers, explanation
from coe.gateway.dialects.asked import Asked, Head
from coe.gateway.reading import Reading, give_up
from coe.gateway.tenants import Prompts
from coe.platform.errors import CoEError


def submitted(parts: Iterable[Asked], name: str, admit: Callable[..., PromptSubmitted]) -> list[PromptSubmitted]:
    """Admits one prompt per part, with the ids `NAME.0`, `NAME.1` ..."""
    prompts = []
    for index, part in enumerate(parts):
        with _naming(index):
            prompts.append(admit(part.to_prompt(), request_id=f"{name}.{index}"))
    return prompts


async def ends(
    prompts: Prompts, asked: Sequence[PromptSubmitted], timeout_s: float, at_once: int
) -> list[PromptCompleted]:
    """Runs the prompts, at most `at_once` at a time, and returns their completions in order.

    If one fails, cancels the others and raises its CoEError.
    """
    room, loop = asyncio.Semaphore(at_once), asyncio.get_running_loop()
    until = loop.time() + timeout_s

    async def end(index: int, prompt: PromptSubmitted) -> PromptCompleted:
        async with room:
            return await _end(prompts, prompt, until - loop.time(), index)

    following = [asyncio.ensure_future(end(index, prompt)) for index, prompt in enumerate(asked)]
    try:
        # asyncio.wait does not cancel the tasks if it is cancelled. They are cancelled below, only once, so that each
        # prompt's cleanup can finish.
        done, _ = await asyncio.wait(following, return_when=asyncio.FIRST_EXCEPTION)
        return [one.result() for one in following if one in done]
    finally:
        await asyncio.gather(*map(give_up, following))


def answer_of(wanted: Asked, name: str, results: Sequence[PromptCompleted]) -> Response:
    """Combines the results into one response, with the headers they have in common."""
    created, answers = int(time.time()), []
    for part, result in zip(wanted.apart(), results, strict=True):
        why = {"coe": explanation(result.routing, result.assignment)} if part.explain else {}
        answers.append(part.whole(result, Head(name, result.assignment.expert_id, created, why)))
    headers = [decision_headers(result.routing, result.assignment).items() for result in results]
    return JSONResponse(wanted.together(answers), headers=dict(set(headers[0]).intersection(*headers[1:])))


async def _end(prompts: Prompts, prompt: PromptSubmitted, timeout_s: float, index: int) -> PromptCompleted:
    answer = Reading(prompts.submit(prompt, timeout_s=timeout_s))
    try:
        with _naming(index):
            while not isinstance(event := await answer.next(), Completed):
                pass
            return event.result
    finally:
        await answer.aclose()


@contextmanager
def _naming(index: int) -> Iterator[None]:
    """Adds the prompt's index to the message of a CoEError."""
    try:
        yield
    except CoEError as error:
        error.message = f"prompt {index}: {error.message}"
        raise

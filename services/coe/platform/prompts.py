"""Validates prompts, whichever way they come in. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from coe._proto import common_pb2, events_pb2
from coe.platform import tools
from coe.platform.errors import InvalidPrompt, PromptTooLarge

ROLES = frozenset({"system", "user", "assistant", "tool"})
# Roles an expert answers: the last message must have one of them.
ASKING = frozenset({"user", "tool"})
# Limit for ids and names, which become keys and headers of several messages.
MAX_NAME_CHARS = 256
# Even a message without text costs template time and prompt tokens.
MAX_MESSAGES = 2_048
# Size of a token id in memory.
_TOKEN_BYTES = 4
_NAMES = ("request_id", "expert_id", "category", "tenant", "conversation_id")


def check(prompt: events_pb2.PromptSubmitted, *, max_bytes: int) -> None:
    """Raises InvalidPrompt or PromptTooLarge if the prompt cannot be answered."""
    check_names({name: getattr(prompt, name) for name in _NAMES} | {"budget": prompt.budget.name})
    check_text(prompt.prompt, prompt.messages, prompt.tools, max_bytes=max_bytes)
    tools.check(prompt)
    if prompt.raw and (prompt.messages or prompt.tools):
        raise InvalidPrompt("raw: requires a prompt, without messages or tools", param="raw")
    if prompt.token_ids:
        _check_tokens(prompt, max_bytes)
        return
    asked = [message.content for message in prompt.messages if message.role == "user"] or [prompt.prompt]
    if not any(text.strip() for text in asked):
        raise InvalidPrompt("the prompt is empty")


def _check_tokens(prompt: events_pb2.PromptSubmitted, max_bytes: int) -> None:
    if prompt.prompt or prompt.messages or prompt.tools:
        raise InvalidPrompt("token_ids: must be the whole prompt, without text, messages or tools", param="token_ids")
    if not prompt.expert_id:
        message = "token_ids: they are of one expert's tokenizer, and the prompt names no expert"
        raise InvalidPrompt(message, param="token_ids")
    size = _TOKEN_BYTES * len(prompt.token_ids)
    if size > max_bytes:
        raise PromptTooLarge(
            f"the prompt has {len(prompt.token_ids)} tokens, {size} bytes, the limit is {max_bytes}",
            bytes=size,
            limit=max_bytes,
        )


def check_names(names: Mapping[str, str]) -> None:
    """Checks the lengths of names, given by field. Raises InvalidPrompt."""
    long = next((name for name, text in names.items() if len(text) > MAX_NAME_CHARS), None)
    if long is not None:
        raise InvalidPrompt(f"{long} has more than {MAX_NAME_CHARS} characters", param=long)


def check_text(
    prompt: str,
    messages: Sequence[common_pb2.ChatMessage],
    offered: Sequence[common_pb2.Tool] = (),
    *,
    max_bytes: int,
) -> None:
    """Checks a text or conversation, which may be empty. Raises InvalidPrompt or PromptTooLarge."""
    size = sum(len(text.encode()) for text in (prompt, *_texts(messages, offered)))
    if size > max_bytes:
        raise PromptTooLarge(f"the prompt has {size} bytes, the limit is {max_bytes}", bytes=size, limit=max_bytes)
    check_length(len(messages))
    if prompt and messages:
        raise InvalidPrompt("give either a prompt or messages, not both")
    unknown = next((message.role for message in messages if message.role not in ROLES), None)
    if unknown is not None:
        raise InvalidPrompt(f"unknown role {unknown[:40]!r}: expected system, user, assistant or tool")
    if messages and messages[-1].role not in ASKING:
        raise InvalidPrompt("the last message of a conversation must be the user's or a tool's")
    tools.check_calls(messages)


def check_length(messages: int) -> None:
    """Checks a conversation's number of messages. Raises PromptTooLarge."""
    if messages > MAX_MESSAGES:
        message = f"the conversation has {messages} messages, the limit is {MAX_MESSAGES}"
        raise PromptTooLarge(message, messages=messages, limit=MAX_MESSAGES)


def _texts(messages: Sequence[common_pb2.ChatMessage], offered: Sequence[common_pb2.Tool]) -> Iterator[str]:
    for message in messages:
        yield message.content
        for call in message.tool_calls:
            yield from (call.name, call.arguments)
    for tool in offered:
        yield from (tool.name, tool.description, tool.parameters)

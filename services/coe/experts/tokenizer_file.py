"""Loads tokenizer.json. It is checked first, because the `tokenizers` library trusts the ids in it, and aborts the
process when it can't allocate memory for that many tokens."""

import json
from typing import Any

from tokenizers import Tokenizer

from coe.experts.call_marks import BEGIN, END
from coe.platform.errors import ArtifactError

MAX_TOKENS = 1 << 22


def load_tokenizer(data: str) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer, and the document. Raises ArtifactError when it is not a usable BPE tokenizer."""
    document = _checked(data)
    try:
        tokenizer = Tokenizer.from_str(json.dumps(document) if _spell_calls(document) else data)
        # Files saved by a training job may have these enabled, which would silently truncate or pad prompts.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer, document
    except Exception as error:  # the library raises plain Exception
        raise ArtifactError(f"can't load tokenizer.json: {error}") from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # a Rust panic, derived from BaseException only
            raise ArtifactError("can't load tokenizer.json: the tokenizers library failed") from error
        raise


def _checked(data: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
        model, added = document["model"], document.get("added_tokens") or []
        if (kind := model.get("type", "BPE")) != "BPE":
            raise ArtifactError(f"tokenizers of type {kind} are not supported")
        ids = [*model["vocab"].values(), *(token["id"] for token in added)]
        contents = [token["content"] for token in added]
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ArtifactError(f"tokenizer.json is not a tokenizer: {error!r}") from error
    if not all(type(token) is int and 0 <= token < MAX_TOKENS for token in ids):
        raise ArtifactError("tokenizer.json has a token with an impossible id")
    if not all(isinstance(content, str) for content in contents):
        raise ArtifactError("tokenizer.json has a token without text")
    document["added_tokens"] = added
    return dict(document)


def _spell_calls(document: dict[str, Any]) -> bool:
    """Turns the call marks from special tokens into text, because answers are parsed as text. Returns whether any was
    special."""
    marks = [token for token in document["added_tokens"] if token["content"] in (BEGIN, END) and token.get("special")]
    for token in marks:
        token["special"] = False
    return bool(marks)

"""Digests that tell whether two prompts with the same request id are identical. Carried in a header."""

import hashlib
import re

from coe._proto import events_pb2
from coe.platform.bus.api import Record

DIGEST_HEADER = "coe-prompt-digest"
DIGEST_CHARS = 16
_FORM = re.compile(rf"[0-9a-f]{{{DIGEST_CHARS}}}")


def digest_of(prompt: events_pb2.PromptSubmitted) -> str:
    asked = events_pb2.PromptSubmitted()
    asked.CopyFrom(prompt)
    # These differ when the same prompt is submitted again.
    asked.request_id, asked.submitted_at_ms, asked.deadline_ms = "", 0, 0
    return hashlib.blake2b(asked.SerializeToString(deterministic=True), digest_size=DIGEST_CHARS // 2).hexdigest()


def digest_header(record: Record) -> str:
    """The digest of the record's prompt; empty if the header is missing or malformed."""
    text = record.header(DIGEST_HEADER) or ""
    return text if _FORM.fullmatch(text) else ""

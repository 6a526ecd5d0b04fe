"""Errors as OpenAI's clients read them."""

import pytest
from pydantic import ValidationError

from coe.gateway.dialects.asked import Asked
from coe.gateway.dialects.chat import ChatRequest
from coe.gateway.dialects.response_input import MAX_ITEMS
from coe.gateway.dialects.responses import ResponseRequest
from coe.gateway.refusals import error_body, invalid
from coe.platform.errors import CapacityExceeded, ContextExceeded, InvalidPrompt, PromptTooLarge
from coe.platform.prompts import MAX_MESSAGES


def test_error_bodies_carry_type_and_code() -> None:
    assert error_body(InvalidPrompt("no"))["error"]["type"] == "invalid_request_error"
    assert error_body(CapacityExceeded("full"))["error"] == {
        "message": "full",
        "type": "rate_limit_error",
        "param": None,
        "code": "capacity_exceeded",
    }


def test_codes_that_clients_know_by_another_name_have_that() -> None:
    assert error_body(ContextExceeded("too long"))["error"]["code"] == "context_length_exceeded"
    assert error_body(InvalidPrompt("n"))["error"]["code"] == "invalid_value"


@pytest.mark.parametrize(
    ("form", "field"),
    [(ChatRequest, "messages"), (ChatRequest, "tools"), (ChatRequest, "stop"), (ResponseRequest, "input")],
)
def test_of_many_items_what_is_wrong_first_is_all_that_is_gathered(form: type[Asked], field: str) -> None:
    asked = {"messages": [{"role": "user", "content": "Hi"}]} if form is ChatRequest else {"input": "Hi"}
    with pytest.raises(ValidationError) as caught:
        form.model_validate(asked | {field: [1] * 1000})
    assert caught.value.error_count() == 1
    assert invalid(caught.value).details["param"] == f"{field}.0"


@pytest.mark.parametrize(
    ("form", "field", "most"), [(ChatRequest, "messages", MAX_MESSAGES), (ResponseRequest, "input", MAX_ITEMS)]
)
def test_a_conversation_is_counted_before_its_turns_are_read(form: type[Asked], field: str, most: int) -> None:
    for count, error in ((most, ValidationError), (most + 1, PromptTooLarge)):
        with pytest.raises(error):
            form.model_validate({field: [None] * count})

"""Lists of models, which is how a key is tested."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.providers import adapter_for
from core.providers.types import Failure
from core.states import FailureReason


def test_the_calls():
    openai, anthropic = adapter_for("openai").list_models(), adapter_for("anthropic").list_models()
    assert (openai.method, openai.path) == ("GET", "/models")
    assert (anthropic.method, anthropic.path) == ("GET", "/v1/models?limit=1000")
    assert anthropic.headers == {"anthropic-version": "2026-10-21"}


@pytest.mark.parametrize("provider", ["openai", "anthropic", "openai_compatible"])
def test_ids_are_read_from_either_form(provider):
    body = b'{"object":"list","data":[{"id":"a","object":"model"},{"type":"model","id":"b"},{"id":3},null]}'
    assert adapter_for(provider).parse_models(200, {}, body) == ["a", "b"]


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (
            401,
            b'{"error":{"message":"Incorrect API key provided: sk-abcdefgh","code":"invalid_api_key"}}',
            FailureReason.AUTHENTICATION,
        ),
        (403, b"", FailureReason.PERMISSION),
        (200, b"<html>", FailureReason.INVALID_RESPONSE),
        (200, b"{}", FailureReason.INVALID_RESPONSE),
    ],
)
def test_what_is_no_list(status, body, reason):
    found = adapter_for("openai").parse_models(status, {}, body)
    assert isinstance(found, Failure)
    assert found.reason is reason
    assert "abcdefgh" not in found.message


@given(st.binary(max_size=100))
def test_no_bytes_make_reading_fail(body):
    found = adapter_for("openai").parse_models(200, {}, body)
    assert isinstance(found, (Failure, list))

"""Classification of refusals: statuses, codes, bodies of every shape, and secrets that must not come through."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.providers import adapter_for
from core.providers.failures import MESSAGE_CHARS, scrub
from core.providers.types import Failure, Success
from core.states import Action, FailureReason

OPENAI = adapter_for("openai")
ANTHROPIC = adapter_for("anthropic")


def openai_body(message="m", type=None, code=None):
    return orjson.dumps({"error": {"message": message, "type": type, "param": None, "code": code}})


def anthropic_body(type, code=None, message="m"):
    error = {"type": type, "message": message}
    if code:
        error["details"] = {"error_code": code}
    return orjson.dumps({"type": "error", "error": error, "request_id": "req_1"})


R = FailureReason


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, openai_body(code="unsupported_parameter"), R.INVALID_REQUEST),
        (400, openai_body(code="context_length_exceeded"), R.REQUEST_TOO_LARGE),
        (400, openai_body(code="model_not_found"), R.MODEL_NOT_FOUND),
        (401, openai_body(code="invalid_api_key"), R.AUTHENTICATION),
        (402, openai_body(), R.QUOTA_EXHAUSTED),
        (403, openai_body(), R.PERMISSION),
        (403, openai_body(code="model_not_found"), R.MODEL_NOT_FOUND),
        (404, openai_body(code="model_not_found"), R.MODEL_NOT_FOUND),
        (404, b"<html>", R.MODEL_NOT_FOUND),
        (408, b"", R.TIMEOUT),
        (409, openai_body(), R.PROVIDER_ERROR),
        (413, b"<html>", R.REQUEST_TOO_LARGE),
        (422, b'{"detail":[{"loc":["body"],"msg":"bad"}]}', R.INVALID_REQUEST),
        (429, openai_body(type="tokens", code="rate_limit_exceeded"), R.RATE_LIMITED),
        (429, openai_body(code="slow_down"), R.RATE_LIMITED),
        (429, b"", R.RATE_LIMITED),
        (429, openai_body(type="insufficient_quota", code="insufficient_quota"), R.QUOTA_EXHAUSTED),
        (429, openai_body(type="insufficient_quota"), R.QUOTA_EXHAUSTED),
        (429, openai_body(code="credit_balance_exhausted"), R.QUOTA_EXHAUSTED),
        (429, openai_body(code="organization_spend_limit_exceeded"), R.QUOTA_EXHAUSTED),
        (429, openai_body(code="project_spend_limit_exceeded"), R.QUOTA_EXHAUSTED),
        (429, openai_body(code="organization_usage_limit_exceeded"), R.QUOTA_EXHAUSTED),
        (429, openai_body(code="billing_hard_limit_reached"), R.QUOTA_EXHAUSTED),
        (429, openai_body("Request too large for gpt-6-luna", "tokens", "rate_limit_exceeded"), R.REQUEST_TOO_LARGE),
        (429, openai_body(code="flex_unavailable"), R.OVERLOADED),
        (498, b"", R.OVERLOADED),
        (500, openai_body(type="server_error"), R.PROVIDER_ERROR),
        (502, b"<html>", R.PROVIDER_ERROR),
        (503, openai_body(code="server_is_overloaded"), R.OVERLOADED),
        (504, b"", R.TIMEOUT),
        (302, b"", R.INVALID_RESPONSE),
    ],
)
def test_openai(status, body, reason):
    found = OPENAI.parse(status, {}, body)
    assert isinstance(found, Failure)
    assert (found.reason, found.provider_status) == (reason, status)
    assert found.message


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, anthropic_body("invalid_request_error"), R.INVALID_REQUEST),
        (
            400,
            anthropic_body("invalid_request_error", message="prompt is too long: 9 tokens > 8 maximum"),
            R.REQUEST_TOO_LARGE,
        ),
        (400, anthropic_body("invalid_request_error", "organization_on_hold"), R.PERMISSION),
        (
            400,
            anthropic_body("invalid_request_error", message="Your credit balance is too low to access"),
            R.QUOTA_EXHAUSTED,
        ),
        (401, anthropic_body("authentication_error"), R.AUTHENTICATION),
        (402, anthropic_body("billing_error"), R.QUOTA_EXHAUSTED),
        (403, anthropic_body("permission_error"), R.PERMISSION),
        (404, anthropic_body("not_found_error"), R.MODEL_NOT_FOUND),
        (409, anthropic_body("conflict_error"), R.PROVIDER_ERROR),
        (413, anthropic_body("request_too_large"), R.REQUEST_TOO_LARGE),
        (429, anthropic_body("rate_limit_error"), R.RATE_LIMITED),
        (429, anthropic_body("rate_limit_error", "ramp_limit_exceeded"), R.RATE_LIMITED),
        (429, anthropic_body("rate_limit_error", "enforced_spend_limit_reached"), R.QUOTA_EXHAUSTED),
        (429, anthropic_body("rate_limit_error", "contract_spend_limit_reached"), R.QUOTA_EXHAUSTED),
        (500, anthropic_body("api_error"), R.PROVIDER_ERROR),
        (503, anthropic_body("api_error"), R.OVERLOADED),
        (504, anthropic_body("timeout_error"), R.TIMEOUT),
        (529, anthropic_body("overloaded_error"), R.OVERLOADED),
        (200, anthropic_body("overloaded_error"), R.OVERLOADED),
        (200, anthropic_body("rate_limit_error"), R.RATE_LIMITED),
    ],
)
def test_anthropic(status, body, reason):
    found = ANTHROPIC.parse(status, {}, body)
    assert isinstance(found, Failure)
    assert found.reason is reason


def test_the_suggested_classification_of_the_reference_holds():
    # PROVIDERS.md 4.5
    def actions(statuses):
        return {OPENAI.parse(status, {}, b"").reason.action for status in statuses}

    assert actions([408, 409, 429, 500, 502, 503, 504, 529]) == {Action.RETRY}
    assert actions([401, 402, 403]) == {Action.STOP_CONNECTION}
    assert actions([400, 404, 413, 422]) == {Action.FAIL}


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b'{"error":{"message":"boom","code":402}}', "boom", "402"),
        (b'{"object":"error","message":"boom","type":"BadRequest","code":400}', "boom", "400"),
        (b'{"error":"boom"}', "boom", None),
        (b'{"detail":"boom"}', "boom", None),
        (b'{"detail":[{"msg":"boom"}]}', '[{"msg":"boom"}]', None),
        (b'{"error":{"message":["boom"]}}', '["boom"]', None),
        (b"<!DOCTYPE html><p>sk-abc", "the provider answered 400 with an HTML page", None),
        (b" ", "the provider answered 400 with an empty body", None),
        (b"oops", "the provider answered 400 without a readable error", None),
        (b"[1]", "the provider answered 400 without a readable error", None),
    ],
)
def test_error_bodies_of_every_shape(body, message, code):
    found = OPENAI.parse(400, {}, body)
    assert isinstance(found, Failure)
    assert (found.message, found.provider_code) == (message, code)


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-abcdefgh1234.",
        "Incorrect API key provided: sk-t***st.",
        "got Authorization: Bearer abcdefgh1234",
        'header "x-api-key": "abcdefgh1234"',
        "gsk_abcdefgh1234 is revoked",
    ],
)
def test_what_looks_like_a_key_is_removed(text):
    assert "abcdefgh1234" not in scrub(text)
    assert "t***st" not in scrub(text)


def test_the_callers_own_key_is_removed_whatever_its_shape():
    body = openai_body(message="you sent hunter22 as key", code="bad_hunter22")
    found = OPENAI.parse(401, {}, body, secret="hunter22")
    assert "hunter22" not in repr(found)


def test_words_that_only_resemble_keys_stay():
    for text in ("a risk-based approach to task-oriented work", "missing bearer token", "desk-mounted"):
        assert scrub(text) == text


def test_a_message_is_cut():
    assert len(scrub("x" * 100_000)) == MESSAGE_CHARS


def test_x_should_retry():
    assert OPENAI.parse(429, {"x-should-retry": "false"}, b"").should_retry is False
    assert OPENAI.parse(400, {"X-Should-Retry": "true"}, b"").should_retry is True
    assert OPENAI.parse(400, {}, b"").should_retry is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "message",
                    "type",
                    "code",
                    "details",
                    "choices",
                    "content",
                    "usage",
                    "stop_reason",
                    "detail",
                    "x",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(status=st.sampled_from([200, 201, 302, 400, 403, 429, 500, 529]), body=JSON)
def test_no_json_makes_parsing_fail(status, body):
    try:
        raw = orjson.dumps(body)
    except TypeError:  # an integer beyond 64 bits
        return
    for adapter in (OPENAI, ANTHROPIC):
        found = adapter.parse(status, {"retry-after": "x"}, raw)
        assert isinstance(found, (Success, Failure))
        if isinstance(found, Success):
            orjson.dumps(found.completion)


@given(status=st.integers(100, 599), body=st.binary(max_size=200), hint=st.text())
def test_no_bytes_make_parsing_fail(status, body, hint):
    for adapter in (OPENAI, ANTHROPIC):
        found = adapter.parse(status, {"retry-after": hint, "retry-after-ms": hint}, body)
        assert isinstance(found, Failure)

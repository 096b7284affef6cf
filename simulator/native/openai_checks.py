"""What OpenAI refuses of a batch: its create request at once, its lines later on (PROVIDERS.md 5.2, 5.3)."""

from __future__ import annotations

from typing import Any

import orjson

from simulator.prompt import Refusal

_FIELDS = frozenset({"input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"})
#: a report has so many lines at the most
_MAX_ERRORS = 20


def check_create(body: Any, endpoints: Any) -> dict[str, Any]:
    """The create request. Raises Refusal (400)."""
    if not isinstance(body, dict):
        raise Refusal(400, "The body must be a JSON object.")
    for name in ("input_file_id", "endpoint", "completion_window"):
        if not isinstance(body.get(name), str):
            raise Refusal(400, f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    if unknown := body.keys() - _FIELDS:
        name = min(unknown)
        raise Refusal(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    if body["endpoint"] not in endpoints:
        raise Refusal(400, "Invalid value for 'endpoint'.", param="endpoint", code="invalid_value")
    if body["completion_window"] != "24h":
        message = "Invalid value for 'completion_window': only '24h' is supported."
        raise Refusal(400, message, param="completion_window", code="invalid_value")
    metadata = body.get("metadata")
    if metadata is not None and not _is_metadata(metadata):
        message = (
            "Invalid 'metadata': at most 16 pairs of strings, keys of up to 64 and values of up to 512 characters."
        )
        raise Refusal(400, message, param="metadata", code="invalid_value")
    return body


def _is_metadata(given: Any) -> bool:
    return (
        isinstance(given, dict)
        and len(given) <= 16
        and all(isinstance(v, str) and len(k) <= 64 and len(v) <= 512 for k, v in given.items())
    )


class LineChecks:
    """The rules for the lines of one input file; `errors` as the batch object shows them."""

    def __init__(self, endpoint: str, max_rows: int) -> None:
        self.errors: list[dict[str, Any]] = []
        self.model: str | None = None
        self.lines = 0
        self._inputs = 0
        self._endpoint = endpoint
        self._max_rows = max_rows
        self._ids: set[str] = set()

    @property
    def hopeless(self) -> bool:
        """Nothing is gained by looking at more lines."""
        return len(self.errors) >= _MAX_ERRORS or any(error["code"] == "too_many_tasks" for error in self.errors)

    def line(self, line: bytes, number: int) -> dict[str, Any] | None:
        """The row, or None if it breaks a rule. `number`: of the line, from 1."""
        self.lines += 1
        if self.lines > self._max_rows:
            self.add("too_many_tasks", f"The batch has more than {self._max_rows} requests.", None, None)
            return None
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            row = None
        if not isinstance(row, dict):
            self.add("invalid_json_line", "This line is not parseable as valid JSON.", None, number)
            return None
        custom_id, body = row.get("custom_id"), row.get("body")
        if not isinstance(custom_id, str) or not custom_id:
            self.add("missing_required_parameter", "Missing required parameter: 'custom_id'.", "custom_id", number)
        elif custom_id in self._ids:
            message = f"The custom_id '{custom_id}' has already been used in this file."
            self.add("duplicate_custom_id", message, "custom_id", number)
        elif row.get("method") != "POST":
            self.add("invalid_method", "Invalid 'method': only POST is supported.", "method", number)
        elif not isinstance(row.get("url"), str) or not row["url"].startswith("/v1/"):
            self.add("invalid_url", f"Invalid 'url': expected '{self._endpoint}'.", "url", number)
        elif row["url"] != self._endpoint:
            message = f"The 'url' '{row['url']}' is not the batch's endpoint '{self._endpoint}'."
            self.add("mismatched_url", message, "url", number)
        elif not isinstance(body, dict):
            self.add("missing_required_parameter", "Missing required parameter: 'body'.", "body", number)
        elif not isinstance(body.get("model"), str):
            self.add("missing_required_parameter", "Missing required parameter: 'body.model'.", "body.model", number)
        elif self.model is not None and body["model"] != self.model:
            message = f"All requests of a file must have one model: '{self.model}', not '{body['model']}'."
            self.add("mismatched_model", message, "body.model", number)
        else:
            self.model = body["model"]
            self._ids.add(custom_id)
            inputs = body.get("input")
            self._inputs += len(inputs) if isinstance(inputs, list) else 1
            if self._endpoint == "/v1/embeddings" and self._inputs > self._max_rows:
                self.add("too_many_tasks", f"The batch has more than {self._max_rows} inputs.", None, None)
            return row
        return None

    def add(self, code: str, message: str, param: str | None, line: int | None) -> None:
        """One more error."""
        self.errors.append({"code": code, "message": message, "param": param, "line": line})

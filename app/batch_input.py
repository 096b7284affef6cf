"""What a new batch is asked for: the options beside `requests` in JSON, or in the query of a body of lines."""

from __future__ import annotations

import re
from typing import Any

from flask import request

from app import body
from core import egress
from core.batches import options
from core.batches.options import BatchOptions
from core.errors import FieldError, InvalidInput

_METADATA = re.compile(r"metadata\[([^\[\]]*)\]\Z")


def from_json() -> tuple[list[Any], BatchOptions]:
    """The requests and options of a JSON body. Raises InvalidInput."""
    given = dict(body.json_object())
    requests = given.pop("requests", None)
    wrong: list[FieldError] = []
    if not isinstance(requests, list) or not requests:
        wrong.append(FieldError("/requests", "required; a list of at least one request"))
    chosen = _options(given, wrong)
    return requests or [], chosen


def options_of_query() -> BatchOptions:
    """The options of a body of lines, from the query. Raises InvalidInput."""
    given: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    wrong: list[FieldError] = []
    for name, values in request.args.lists():
        pair = _METADATA.match(name)
        if len(values) > 1:
            wrong.append(FieldError(f"?{name}", "is given more than once"))
        elif pair:
            metadata[pair[1]] = values[0]
        elif name == "metadata":
            wrong.append(FieldError("?metadata", "write each pair as metadata[key]=value"))
        else:
            given[name] = values[0]
    if metadata:
        given["metadata"] = metadata
    return _options(given, wrong)


def _options(given: dict[str, Any], wrong: list[FieldError]) -> BatchOptions:
    """The options, or InvalidInput with what is wrong with them and with everything else so far."""
    try:
        chosen = options.parse(given, egress.check)
    except InvalidInput as error:
        wrong.extend(error.errors)
    if wrong:
        raise InvalidInput(wrong)
    return chosen

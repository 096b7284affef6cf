"""What a new batch is asked for: the options beside `requests` in JSON, or in the query of a body of lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from flask import request

from app import body
from core import egress
from core.batches import options
from core.batches.options import BatchOptions
from core.errors import FieldError, InvalidInput

_METADATA = re.compile(r"metadata\[([^\[\]]*)\]\Z")


def from_json(read: Callable[[list[Any]], list[FieldError]]) -> tuple[list[Any], BatchOptions]:
    """The requests and options of a JSON body.

    Parameters
    ----------
    read : what is wrong with the requests; called if an option is wrong, so that all of it is reported at once.

    Raises
    ------
    InvalidInput
        An option is wrong, with everything else that is; or there are no requests.
    """
    given = dict(body.json_object())
    requests = given.pop("requests", None)
    # They would change nothing, and nobody would notice: a cost limit, say.
    wrong = [
        FieldError(f"?{name}", "in JSON, options go into the body beside requests; the query has them for lines only")
        for name in request.args
        if name in options.NAMES or _METADATA.match(name)
    ]
    if not isinstance(requests, list) or not requests:
        wrong.append(FieldError("/requests", "is required: a list of at least one request"))
        requests = []
    chosen, found = _options(given, "/")
    wrong += found
    if wrong:
        raise InvalidInput(wrong + (read(requests) if requests else []))
    return requests, chosen


def options_of_query(read: Callable[[], list[FieldError]]) -> BatchOptions:
    """The options of a body of lines, from the query.

    Parameters
    ----------
    read : what is wrong with the lines; called if an option is wrong, so that all of it is reported at once.

    Raises
    ------
    InvalidInput
        An option is wrong, with everything else that is.
    """
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
    chosen, found = _options(given, "?")
    wrong += found
    if wrong:
        raise InvalidInput(wrong + read())
    return chosen


def _options(given: dict[str, Any], place: str) -> tuple[BatchOptions, list[FieldError]]:
    """The options, and what is wrong with them; `place` is `/` in a body, `?` in the query."""
    try:
        return options.parse(given, egress.check), []
    except InvalidInput as error:
        return BatchOptions(), [FieldError(place + each.pointer[1:], each.message) for each in error.errors]

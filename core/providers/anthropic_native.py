"""What Anthropic's form of a request holds beyond OpenAI's, and where it travels, so that Claude gets it as it came.

A block that OpenAI's form has no exact word for rides along under ANTHROPIC_BLOCK, on a content part, a tool message,
a call or a tool; the part around it says as much of it as OpenAI's form can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: on a part, a tool message or a tool: the block that Claude gets in its place, untouched
ANTHROPIC_BLOCK = "anthropic_block"


#: fields of a request that only Claude has and that pass to it unread
CLAUDE_OPTIONS = ("container", "context_management", "diagnostics", "speed", "inference_geo", "mcp_servers")

#: headers of the caller's that only Claude has and that pass to it: whom a request is for, and where it belongs
CLAUDE_HEADERS = ("anthropic-beta", "anthropic-user-profile-id", "anthropic-workspace-id")


class MessagesParams(dict[str, Any]):
    """A completion request in OpenAI's form that came in Anthropic's: a dict that remembers how it is to be answered.

    `headers` are those of the caller's that pass to Claude, `version` is his anthropic-version. `unlogged` are fields
    of the body that Claude gets as they came, while what is logged of them has no secrets. `origins` names for each
    message the place in the caller's body that it was made of, as a JSON pointer. A stream for it comes in Anthropic's
    events if Claude answers. `for_claude`: it holds what only Claude understands; `others` is then the same request
    for other vendors' models, None if they cannot be asked it. None of this is part of the JSON that is logged.
    """

    __slots__ = ("for_claude", "headers", "origins", "others", "unlogged", "version")

    def __init__(self) -> None:
        super().__init__()
        self.headers: dict[str, str] = {}
        self.unlogged: dict[str, Any] = {}
        self.version: str | None = None
        self.for_claude = False
        self.others: MessagesParams | None = None
        self.origins: list[str] = []


def params_for(params: dict[str, Any], provider: str) -> dict[str, Any] | None:
    """`params` in the form that goes to a provider's models; None if they cannot be asked it."""
    if provider == "anthropic" or not isinstance(params, MessagesParams) or not params.for_claude:
        return params
    return params.others


def native_block(holder: Mapping[str, Any]) -> dict[str, Any] | None:
    """The block that rides on a part, message or tool; None if there is none.

    What is no object is no block: from_anthropic.py makes none, and a caller who writes one sends `{}` to Claude.
    """
    if ANTHROPIC_BLOCK not in holder:
        return None
    found = holder[ANTHROPIC_BLOCK]
    return found if isinstance(found, dict) else {}

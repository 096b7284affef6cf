"""OpenAI's `POST /v1/embeddings`: vectors that depend on nothing but the input, in either encoding."""

from __future__ import annotations

import base64
import math
import random
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from simulator import openai_rules, openai_vendor
from simulator.limits import Allowance, Refused
from simulator.prompt import Plan, Reading, Refusal

if TYPE_CHECKING:
    from simulator.simulation import Simulation

#: model -> dimensions of its vectors
_MODELS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
_COMPATIBLE_DIMENSIONS = 768
_MAX_INPUTS = 2048


@dataclass(slots=True)
class EmbeddingsPlan(Plan):
    """A plan whose answer is one vector an input."""

    inputs: list[str] = field(default_factory=list)
    dimensions: int = 0
    base64: bool = False


class OpenAIEmbeddings:
    """The surface. `compatible`: any model."""

    vendor = "openai"
    manners = openai_vendor

    def __init__(self, *, compatible: bool = False) -> None:
        self.compatible = compatible

    def read(self, simulation: Simulation, body: Any, headers: dict[bytes, bytes]) -> Plan:
        """The plan of the answer. Raises Refusal."""
        if not isinstance(body, dict):
            raise openai_rules.bad("The body must be a JSON object.", None)
        name = body.get("model")
        if not isinstance(name, str):
            raise openai_rules.bad("Invalid type for 'model': expected a string.", "model", "invalid_type")
        most = _COMPATIBLE_DIMENSIONS if self.compatible else _MODELS.get(name)
        if most is None:
            raise openai_vendor.unknown_model(name)
        encoding = body.get("encoding_format", "float")
        if encoding not in ("float", "base64"):
            raise openai_rules.bad("Invalid value for 'encoding_format'.", "encoding_format")
        dimensions = body.get("dimensions") or most
        if not isinstance(dimensions, int) or not 1 <= dimensions <= most:
            raise openai_rules.bad(f"'dimensions' must be from 1 to {most}.", "dimensions")
        inputs = _inputs(body.get("input"))
        reading = Reading()
        for text in inputs:
            reading.text(text, user=True)
        base = reading.plan(name, 0)
        return EmbeddingsPlan(
            base.model,
            base.nonce,
            base.prompt_hash,
            base.prompt,
            base.prompt_tokens,
            0,
            inputs=inputs,
            dimensions=dimensions,
            base64=encoding == "base64",
        )

    def admit(self, allowance: Allowance, now: float, plan: Plan) -> Refused | None:
        """Takes the inputs' tokens from the limits."""
        return allowance.admit_total(now, plan.prompt_tokens)

    def charge(self, allowance: Allowance, now: float, plan: Plan) -> None:
        """Nothing more: all was taken up front."""

    def answer(self, plan: Plan, number: str) -> bytes:
        """The vectors as JSON."""
        assert isinstance(plan, EmbeddingsPlan)
        vectors = [_vector(text, plan.dimensions) for text in plan.inputs]
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector.tobytes()).decode() if plan.base64 else vector.tolist(),
            }
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": plan.prompt_tokens, "total_tokens": plan.prompt_tokens}
        return orjson.dumps({"object": "list", "data": data, "model": plan.model, "usage": usage})

    def events(self, plan: Plan, number: str, chunks: int) -> list[bytes]:
        """Never asked for: embeddings are not streamed."""
        raise Refusal(400, "Embeddings are not streamed.")

    def stream_error(self, number: str) -> bytes:
        """Never asked for, either."""
        return b""


def _inputs(given: Any) -> list[str]:
    """The inputs as texts; tokens count as their numbers."""
    if isinstance(given, str) or (isinstance(given, list) and given and all(isinstance(each, int) for each in given)):
        given = [given]
    if not isinstance(given, list) or not 1 <= len(given) <= _MAX_INPUTS:
        raise openai_rules.bad("'$.input' is invalid.", "input")
    texts = [each if isinstance(each, str) else " ".join(map(str, each)) for each in given]
    if not all(texts):
        raise openai_rules.bad("'$.input' cannot be an empty string.", "input")
    return texts


def _vector(text: str, dimensions: int) -> array[float]:
    """A vector of length 1 that is the same for the same text."""
    draw = random.Random(text)
    values = [draw.gauss(0.0, 1.0) for _ in range(dimensions)]
    length = math.sqrt(sum(value * value for value in values))
    return array("f", [value / length for value in values])

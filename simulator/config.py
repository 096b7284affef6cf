"""What can be set on the simulator: schema of `/_sim/config`, checked strictly, for a typing error must not pass."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator.faults import KINDS, OWN_PLACE, strikes

Rate = Annotated[float, Field(gt=0)]
Seconds = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Latency(_Strict):
    """Time until the answer (until the first event when streaming), in seconds. A bare number means fixed."""

    kind: Literal["fixed", "uniform", "lognormal"] = "fixed"
    #: fixed: the latency; lognormal: its median
    seconds: Seconds = 0.0
    #: uniform: the bounds
    low: Seconds = 0.0
    high: Seconds = 0.0
    #: lognormal: the standard deviation of the logarithm
    sigma: Seconds = 0.5
    #: lognormal: nothing takes longer
    at_most: Seconds = 600.0

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return {"seconds": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


class Stream(_Strict):
    """How an answer is cut up when it is streamed."""

    chunks: Annotated[int, Field(ge=1)] = 4
    #: seconds between two events
    interval: Seconds = 0.0


class Tokens(_Strict):
    """What usage says beyond the formula of docs/simulator.md."""

    #: tokens of every answer; null: as its text has
    output: Annotated[int, Field(ge=0)] | None = None
    #: reasoning (thinking) tokens added to every answer
    reasoning: Annotated[int, Field(ge=0)] = 0
    #: shares of the prompt that were read from, and written to, the prompt cache
    cached: Share = 0.0
    cache_write: Share = 0.0


class Limit(_Strict):
    """What one key may use. What is absent is not limited (and advertised as a very large number)."""

    requests_per_minute: Rate | None = None
    #: OpenAI: prompt plus the output asked for; Anthropic: input, unless input_tokens_per_minute says otherwise
    tokens_per_minute: Rate | None = None
    input_tokens_per_minute: Rate | None = None
    output_tokens_per_minute: Rate | None = None
    max_concurrency: Annotated[int, Field(ge=1)] | None = None
    #: size of the buckets, in seconds of their rate; 60: a minute's worth may be used at once
    burst_seconds: Rate = 60.0
    #: False: a 429 comes without retry-after, retry-after-ms and reset times
    hints: bool = True
    #: True: each model has an allowance of its own
    per_model: bool = False


class Limits(_Strict):
    """Limits by the key's text, then by model, then for everybody else."""

    keys: dict[str, Limit] = {}
    models: dict[str, Limit] = {}
    default: Limit = Limit()


class Cache(_Strict):
    """The model of prompt caching (docs/simulator.md); off, usage follows `tokens.cached` and `tokens.cache_write`."""

    enabled: bool = False
    #: how long OpenAI keeps a prefix after its last use; Anthropic's five minutes and one hour are as asked for
    openai_seconds: Seconds = 1800.0


class BatchSpeed(_Strict):
    """How one vendor's native batches run; a batch keeps what held when it was created. Times in seconds."""

    #: until the input has been checked, and from the last row until the results are there
    validation_seconds: Seconds = 0.0
    finalizing_seconds: Seconds = 0.0
    #: how long the rows take: the longer of the two; 0 and null: at once
    seconds: Seconds = 0.0
    rows_per_second: Rate | None = None
    #: it stops for good after this share of its rows
    stuck: Share | None = None
    expires_after_seconds: Seconds = 86_400.0
    cancelling_seconds: Seconds = 0.0
    #: result lines come in another order than the input's
    shuffle: bool = True
    max_rows: Annotated[int, Field(ge=1)]
    max_bytes: Annotated[int, Field(ge=1)]


class OpenAIBatches(BatchSpeed):
    """OpenAI's batches, with its limits (PROVIDERS.md 5.3)."""

    max_rows: Annotated[int, Field(ge=1)] = 50_000
    #: of a batch input file
    max_bytes: Annotated[int, Field(ge=1)] = 200 * 1024 * 1024
    #: prompt tokens that may wait at once, for each key: by model, and for the models not named
    enqueued_tokens: dict[str, int] = {}
    enqueued_tokens_default: int | None = None
    batches_per_hour: Annotated[int, Field(ge=0)] = 2_000
    #: rows that a cancel keeps from running get a `batch_cancelled` line; else they are in neither file
    cancelled_lines: bool = False


class AnthropicBatches(BatchSpeed):
    """Anthropic's batches, with its limits (PROVIDERS.md 5.6)."""

    max_rows: Annotated[int, Field(ge=1)] = 100_000
    #: of the body that creates a batch
    max_bytes: Annotated[int, Field(ge=1)] = 256 * 1024 * 1024
    #: rows of all of a key's batches that may wait at once
    queue_rows: int | None = None


class Webhook(_Strict):
    """Where the ends of OpenAI's batches are told, in Standard Webhooks form."""

    url: str
    #: whsec_ and base64, or plain text
    secret: str


class Native(_Strict):
    """The vendors' own batches."""

    #: what the clock of batches, files and caches is ahead by; /_sim/native/advance adds to it
    clock_offset_seconds: float = 0.0
    openai: OpenAIBatches = OpenAIBatches()
    anthropic: AnthropicBatches = AnthropicBatches()
    webhook: Webhook | None = None


On = Literal[
    "call", "upload", "get_file", "list_files", "content", "delete", "create", "get", "list", "cancel", "row", "batch"
]


class Fault(_Strict):
    """One rule: what goes wrong, how often, and for whom. All conditions must hold."""

    kind: str
    #: what it strikes: a live call, a request to files or batches by its purpose, a batch's row, a batch as a whole
    on: On = "call"
    probability: Share = 1.0
    #: conditions: the whole key, the model as asked for, a part of the prompt, the vendor
    key: str | None = None
    model: str | None = None
    contains: str | None = None
    vendor: Literal["openai", "anthropic"] | None = None
    #: only the first N calls of each nonce: "fails twice, then works"
    first_attempts: Annotated[int, Field(ge=1)] | None = None
    #: at most this many times in all
    count: Annotated[int, Field(ge=0)] | None = None
    #: seconds before it strikes
    delay: Seconds = 0.0
    #: the hints; null leaves the header out (429 and slow_down: 1 second unless said otherwise)
    retry_after: float | None = None
    retry_after_ms: float | None = None
    should_retry: bool | None = None
    #: replaces the body's own
    code: str | None = None
    message: str | None = None
    #: slow_first_byte, hang, silence, stream_stall: how long; drip: between two bytes; slow_body: for all of it;
    #: slow: a batch's rows; expires: after so long
    seconds: Seconds | None = None
    #: stuck: after this share of the rows
    share: Share = 0.0
    #: gzip_bomb: decoded size; huge_chunk: size of the answer's text
    bytes: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _numeric_kind(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("kind"), int):
            return value | {"kind": str(value["kind"])}
        return value

    @model_validator(mode="after")
    def _known(self) -> Fault:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}; one of {', '.join(KINDS)}")
        if "on" not in self.model_fields_set:
            self.on = OWN_PLACE.get(KINDS[self.kind].stage, "call")
        if not strikes(self.kind, self.on):
            raise ValueError(f"the kind {self.kind!r} does not happen on {self.on!r}")
        if self.kind in ("429", "slow_down") and "retry_after" not in self.model_fields_set:
            self.retry_after = 1
        return self


class Config(_Strict):
    """The whole of it. POST /_sim/config replaces the top-level fields that it names."""

    latency: Latency = Latency()
    stream: Stream = Stream()
    tokens: Tokens = Tokens()
    limits: Limits = Limits()
    faults: list[Fault] = []
    native: Native = Native()
    cache: Cache = Cache()
    #: makes the draws of `probability` repeatable: by nonce and attempt, or by order where there is no nonce
    seed: int = 1
    #: null: every key is good unless it contains "invalid"
    valid_keys: list[str] | None = None
    #: model names accepted besides the catalogue's
    extra_models: list[str] = []
    #: keep a record per call, and counts per nonce
    record_calls: bool = True
    record_nonces: bool = True
    #: a client that hangs up is charged all the same
    charge_abandoned: bool = True

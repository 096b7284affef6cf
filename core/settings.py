"""Every setting of every process, from the environment, checked once at start."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit, urlunsplit

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.secret import Secret


class Settings(BaseSettings):
    """Read from the environment with the prefix LLM_SERVICE_; the two stores by their usual names."""

    model_config = SettingsConfigDict(env_prefix="LLM_SERVICE_", arbitrary_types_allowed=True, extra="ignore")

    database_url: str = Field(
        default="postgresql://postgres@127.0.0.1:5432/postgres",
        validation_alias=AliasChoices("DATABASE_URL", "database_url"),
    )
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", validation_alias=AliasChoices("REDIS_URL", "redis_url"))
    #: the operator's Prometheus server, for `live` of /v1/stats; empty: each API host tells of its own processes
    prometheus_url: str = Field(default="", validation_alias=AliasChoices("PROMETHEUS_URL", "prometheus_url"))
    #: host:port the API listens on
    bind: str = "127.0.0.1:8000"
    #: guards /v1/admin; empty: the admin API is off
    admin_token: str = ""
    #: key-encryption keys as `1:base64,2:base64`; the highest version encrypts
    kek: str = ""
    #: a file with the same text
    kek_file: str = ""
    #: comma-separated CIDRs that calls may reach although they are private; plain http is allowed there
    egress_allow: str = ""
    #: comma-separated ports that calls may use on public addresses
    egress_ports: str = "443,8443"
    openai_base_url: str = "https://api.openai.com/v1"
    anthropic_base_url: str = "https://api.anthropic.com"
    log_format: str = "console"
    log_level: str = "INFO"
    #: how long a stopping worker lets running calls finish; longer than the longest call in production
    drain_seconds: float = 660.0
    #: wall-clock limit of one provider call
    call_timeout_seconds: float = 600.0
    #: a worker whose heartbeat is older than this is dead
    worker_lease_seconds: float = 15.0
    #: calls one worker process may hold at once
    worker_concurrency: int = 4000
    #: calls a project may have in flight on one connection when nobody configured or learned a limit
    default_max_concurrency: int = 10_000
    #: workers and schedulers answer Prometheus on this port; 0: they do not, the API answers for all on its host
    metrics_port: int = 0
    #: so many tenants, the oldest, have metrics of their own; 0: nothing is counted by tenant
    metrics_tenant_labels: int = Field(default=0, ge=0, le=1000)
    #: `auto` sends no fewer rows of one model through a provider's batch API
    native_min_rows: int = Field(default=1000, ge=1)
    #: how often a provider's batch is looked at when it is new or is to end, in seconds; up to 30 times this in between
    native_poll_seconds: float = Field(default=10.0, gt=0)
    #: where traces go, as OTLP over HTTP (http://collector:4318/v1/traces); empty: nowhere
    traces_url: str = ""
    #: share of the traces that is recorded
    traces_ratio: float = Field(default=0.1, ge=0, le=1)
    max_body_bytes: int = 1 << 30
    #: a JSON body that is not streamed (everything but NDJSON)
    max_json_bytes: int = 64 << 20
    max_line_bytes: int = 8 << 20
    max_rows: int = 1_000_000
    max_depth: int = 64
    #: requests that a project may make of the API in a minute, unless it sets a lower limit itself; 0: any number
    api_requests_per_minute: int = Field(default=0, ge=0)

    def kek_text(self) -> Secret:
        """The key-encryption keys' text, from the variable or the file; empty if neither is set."""
        if self.kek or not self.kek_file:
            return Secret(self.kek)
        with open(self.kek_file, encoding="ascii") as file:
            return Secret(file.read().strip())

    def allowed_networks(self) -> list[IPv4Network | IPv6Network]:
        return [ip_network(part.strip()) for part in self.egress_allow.split(",") if part.strip()]

    def allowed_ports(self) -> frozenset[int]:
        return frozenset(int(part) for part in self.egress_ports.split(",") if part.strip())

    @property
    def broker_url(self) -> str:
        """Dramatiq's own Redis database: the one after REDIS_URL's, so that its blocking KEYS sees only its keys."""
        parts = urlsplit(self.redis_url)
        database = int(parts.path.strip("/") or 0) + 1
        return urlunsplit(parts._replace(path=f"/{database}"))


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()

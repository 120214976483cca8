"""Settings: their types, bounds and defaults. What each one means stands in `conf/pushserver.toml`.

`config_load` reads them, `config_checks` holds the rules beyond a type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pushserver.config_checks import (
    check_api_key,
    check_authorization,
    check_database_url,
    check_https_url,
    check_name,
    check_proxies,
    check_secret,
    check_url,
    check_user_url,
    parse_list,
)
from pushserver.core.client_ip import DEFAULT_HEADERS

__all__ = ["Settings"]

Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
CountOrOff = Annotated[int, Field(ge=0, le=2**31 - 1)]
Bytes = Annotated[int, Field(ge=1, le=2**40)]
Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
SecondsOrOff = Annotated[float, Field(ge=0, le=86_400)]
Lifetime = Annotated[int, Field(ge=1, le=3650 * 86_400)]
"""Whole seconds, as Redis counts them."""
Host = Annotated[str, Field(min_length=1)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")]
_Item = TypeVar("_Item")
# A list becomes a tuple, which strict checking would refuse.
Items = Annotated[tuple[_Item, ...], Field(strict=False), BeforeValidator(parse_list)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class ServerSettings(_Section):
    """The listener for clients."""

    host: Host = "127.0.0.1"
    port: Port = 8000
    max_connections: Count = 20_000
    reuse_port: bool = False
    certfile: str = ""
    keyfile: str = ""
    send_buffer_bytes: CountOrOff = 65_536
    deflate: bool = False
    deflate_threshold_bytes: CountOrOff = 512


class AdminSettings(_Section):
    """The listener for back ends and operators."""

    host: Host = "127.0.0.1"
    port: Port = 8001
    api_keys: Items[Annotated[SecretStr, AfterValidator(check_api_key)]] = ()
    origins: Items[str] = ()


class PodSettings(_Section):
    """Who this process is among the pods."""

    name: Annotated[str, AfterValidator(check_name)] = ""
    production: bool = False
    lease_ms: Annotated[int, Field(ge=100, le=600_000)] = 15_000


class RedisSettings(_Section):
    """Where Redis or Valkey is, and how long it is waited for."""

    url: Annotated[SecretStr, AfterValidator(check_url)] = SecretStr("")
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")] = "ps:"
    durability: Literal["none", "replica", "fsync"] = "none"
    timeout_ms: Milliseconds = 4000
    connect_wait_ms: Milliseconds = 5000
    max_connections: Annotated[int, Field(ge=1, le=1000)] = 8


class AuthSettings(_Section):
    """Whose tokens are believed."""

    algorithms: Annotated[Items[Literal["HS256", "RS256", "ES256", "EdDSA"]], Field(min_length=1)] = (
        "HS256",
    )
    secret: Annotated[SecretStr, AfterValidator(check_secret)] = SecretStr("")
    previous_secret: Annotated[SecretStr, AfterValidator(check_secret)] = SecretStr("")
    public_key_file: str = ""
    jwks_url: Annotated[str, AfterValidator(check_https_url)] = ""
    jwks_ca_file: str = ""
    jwks_refresh_s: Annotated[float, Field(ge=1, le=86_400)] = 300
    jwks_max_stale_s: Annotated[float, Field(ge=1, le=30 * 86_400)] = 86_400
    issuer: str = ""
    audience: str = ""
    leeway_s: Annotated[float, Field(ge=0, le=60)] = 10
    query_token: bool = False


class CategoriesSettings(_Section):
    """Where a user's categories are read."""

    source: Literal["redis", "claims", "http"] = "redis"
    url: Annotated[str, AfterValidator(check_user_url)] = ""
    authorization: Annotated[SecretStr, AfterValidator(check_authorization)] = SecretStr("")
    ca_file: str = ""
    timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 2000
    max_connections: Annotated[int, Field(ge=1, le=1000)] = 16


class OriginSettings(_Section):
    """Which web pages may connect."""

    allow: Items[str] = ()


class ProxySettings(_Section):
    """Whose word about a client's address is believed."""

    trusted: Annotated[Items[str], AfterValidator(check_proxies)] = ()
    headers: Items[HeaderName] = DEFAULT_HEADERS
    platform: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]*$")] = ""


class DeliverySettings(_Section):
    """What may be unconfirmed on a connection, and for how long."""

    window: Annotated[int, Field(ge=1, le=65_536)] = 256
    window_bytes: Bytes = 1024 * 1024
    ping_interval_s: Seconds = 25
    ping_timeout_s: Seconds = 10
    ack_timeout_s: Seconds = 30
    log_confirm_s: SecondsOrOff = 2


class InboxSettings(_Section):
    """The offline messages of a user."""

    cap: Annotated[int, Field(ge=1, le=100_000)] = 1000
    page: Annotated[int, Field(ge=1, le=10_000)] = 128
    ttl_s: Lifetime = 8 * 86_400
    rescan_s: SecondsOrOff = 30


class PublishSettings(_Section):
    """What a publish may ask for, and its repeats."""

    idempotency_s: Lifetime = 600
    inline_bytes: Annotated[int, Field(ge=0, le=65_536)] = 1024
    max_users: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    record_s: Annotated[int, Field(ge=0, le=7 * 86_400)] = 86_400


class ContentSettings(_Section):
    """What messages say: how large, how long, how much of it in memory."""

    cache_bytes: Bytes = 64 * 1024 * 1024
    ttl_s: Lifetime = 7 * 86_400
    max_ttl_s: Lifetime = 30 * 86_400
    max_bytes: Annotated[int, Field(ge=1, le=16 * 1024 * 1024)] = 256 * 1024


class LogSettings(_Section):
    """The log of messages to categories and to everyone."""

    retention_s: Lifetime = 7 * 86_400
    max_length: Annotated[int, Field(ge=100, le=10_000_000)] = 100_000


class ExposureSettings(_Section):
    """Where exposure events go, and in what portions."""

    sink: Literal["stream", "pubsub", "none"] = "stream"
    topic: str = ""
    batch_events: Annotated[int, Field(ge=1, le=1000)] = 1000
    batch_ms: Milliseconds = 10
    batch_bytes: Annotated[int, Field(ge=1, le=10_000_000)] = 8 * 1024 * 1024
    spool_max: Count = 1_000_000


class ConsumeSettings(_Section):
    """The consumer: where it reads exposure events, and the database it keeps them in."""

    source: Literal["stream", "pubsub"] = "stream"
    subscription: str = ""
    database_url: Annotated[SecretStr, AfterValidator(check_database_url)] = SecretStr(
        "sqlite:///.pushserver/exposures.db"
    )
    batch_events: Annotated[int, Field(ge=1, le=10_000)] = 1000
    batch_bytes: Annotated[int, Field(ge=1, le=64 * 1024 * 1024)] = 4 * 1024 * 1024
    claim_after_s: Annotated[float, Field(ge=0.1, le=86_400)] = 60
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30
    host: Host = "127.0.0.1"
    port: Port = 8002


class LimitsSettings(_Section):
    """What one client, one address and one moment may ask for."""

    connections_per_user: Count = 10
    connections_per_ip: CountOrOff = 1000
    handshakes_per_s: CountOrOff = 500
    frames_per_s: Count = 50
    max_frame_bytes: Annotated[int, Field(ge=1024, le=16 * 1024 * 1024)] = 65_536
    handshake_timeout_s: Seconds = 10


class DrainSettings(_Section):
    """A pod's orderly leaving."""

    spread_s: SecondsOrOff = 10
    timeout_s: Seconds = 30


class LoggingSettings(_Section):
    """What is logged, and how it looks."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class Settings(BaseSettings):
    """Every setting, frozen. `config_load.load` builds it; built directly, each is checked by itself only."""

    model_config = SettingsConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)

    server: ServerSettings = ServerSettings()
    admin: AdminSettings = AdminSettings()
    pod: PodSettings = PodSettings()
    redis: RedisSettings = RedisSettings()
    auth: AuthSettings = AuthSettings()
    categories: CategoriesSettings = CategoriesSettings()
    origin: OriginSettings = OriginSettings()
    proxy: ProxySettings = ProxySettings()
    delivery: DeliverySettings = DeliverySettings()
    inbox: InboxSettings = InboxSettings()
    publish: PublishSettings = PublishSettings()
    content: ContentSettings = ContentSettings()
    log: LogSettings = LogSettings()
    exposure: ExposureSettings = ExposureSettings()
    consume: ConsumeSettings = ConsumeSettings()
    limits: LimitsSettings = LimitsSettings()
    drain: DrainSettings = DrainSettings()
    logging: LoggingSettings = LoggingSettings()

    _origins: dict[tuple[str, ...], str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing but arguments: what is read from where is `config_load`'s business."""
        return (init_settings,)

    @property
    def development(self) -> bool:
        """Whether this is development mode: no `redis.url`, so an embedded engine on loopback."""
        return not self.redis.url.get_secret_value() and not self.pod.production

    def origin_of(self, section: str, name: str) -> str:
        """Where it comes from: `default`, `file PATH`, `environment`, `environment file PATH` or `flag`."""
        return self._origins.get((section, name), "default")

    def remember_origins(self, origins: Mapping[tuple[str, ...], str]) -> None:
        """Keep what `origin_of` answers, by (section, name)."""
        self._origins.update(origins)

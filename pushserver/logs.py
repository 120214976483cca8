"""Logs: every event is one line on standard error, whatever its values hold, and no secret is in it.

Modules log by `structlog.get_logger(__name__)`; what libraries log by `logging` takes the same way.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from collections.abc import Mapping
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

__all__ = ["configure", "mask", "printable"]

MASKED = "***"
MAX_DEPTH = 6
"""Levels of lists and dictionaries in a value that are kept; what is below is logged as `...`."""

_SECRET_KEY = re.compile(r"token|secret|passw|authorization|cookie|api_key", re.IGNORECASE)
_SECRET_TEXTS = (
    # Credentials in a URL; a query or a cookie; a header or a subprotocol; a JWT wherever it stands.
    (re.compile(r"(://[^/?#@\s:]*:)[^/?#\s]*@"), rf"\1{MASKED}@"),
    (re.compile(r"((?:token|secret|password)=)[^\s&;,'\")]+", re.IGNORECASE), rf"\1{MASKED}"),
    (re.compile(r"(\bbearer[ .])[^\s,'\")]+", re.IGNORECASE), rf"\1{MASKED}"),
    (re.compile(r"\beyJ[\w-]*\.[\w-]+(?:\.[\w-]*)?"), MASKED),
)


def configure(level: str, fmt: str) -> None:
    """Log from `level` on ("debug", "info", "warning", "error") as `fmt`: "console" or "json".

    Libraries are never heard below "info". Calling it again replaces what was configured.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    render = _render_json if fmt == "json" else _render_console
    steps: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*steps, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=steps,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, clean, render],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.INFO), force=True)
    logging.getLogger("pushserver").setLevel(number)
    # Its lines repeat the query, in which a token may stand; requests are logged by the chain.
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    # What it says below a warning of requests that are no HTTP repeats their headers as they were sent.
    logging.getLogger("tornado.general").setLevel(max(number, logging.WARNING))
    logging.captureWarnings(True)


def clean(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A processor: secrets masked, and every value a text, a number, a list or a dictionary of them."""
    return {key: _plain(key, value, 0) for key, value in event.items()}


def mask(text: str) -> str:
    """`text` without what looks like a token, a password in a URL, or a secret in a query."""
    for pattern, replacement in _SECRET_TEXTS:
        text = pattern.sub(replacement, text)
    return text


def printable(text: str) -> str:
    """`text` with control, format and separator characters escaped, so that it stays on its line."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _plain(key: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return _number(value)
    if value and _SECRET_KEY.search(key):
        return MASKED
    if isinstance(value, Mapping | list | tuple | set | frozenset) and depth == MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {str(name): _plain(str(name), item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain("", item, depth + 1) for item in value]
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    # A lone surrogate has no UTF-8: no line could be written, and no strict parser would read it.
    return mask(text.encode(errors="backslashreplace").decode())


def _number(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    # Python refuses to write an integer of more than 4300 digits in decimal.
    return value if value is None or value.bit_length() <= 64 else hex(value)


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    first = {key: event.pop(key) for key in ("time", "level", "logger", "event")}
    return json.dumps({**first, **event}, ensure_ascii=True)


def _render_console(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    time, level, logger, what = (event.pop(key) for key in ("time", "level", "logger", "event"))
    trace = event.pop("exception", "")
    values = "".join(f" {printable(key)}={_quoted(value)}" for key, value in event.items())
    # Marked, so that no line of a traceback can pass for an event.
    lines = "".join(f"\n    | {printable(line)}" for line in str(trace).split("\n") if trace)
    return f"{time} {level:<8} {printable(str(what))}{values} [{logger}]{lines}"


def _quoted(value: Any) -> str:
    if isinstance(value, str) and value and not set(value) & set(" =\"'"):
        return printable(value)
    return printable(json.dumps(value, ensure_ascii=False))

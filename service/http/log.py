"""Structured logs: one JSON object a line, on standard error. Ids, lengths and times; never a prompt, never a key."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any


class JsonLines(logging.Formatter):
    """A record as a line of JSON; of an exception the kind and place, since its message may quote what was sent."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info is not None and record.exc_info[0] is not None:
            place = record.exc_info[2]
            while place is not None and place.tb_next is not None:
                place = place.tb_next
            line["message"] = record.getMessage().splitlines()[0]
            line["error"] = record.exc_info[0].__name__
            line["where"] = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else "unknown"
        return json.dumps(line, ensure_ascii=False)


_LOUD = {"handlers": ["lines"], "level": "INFO", "propagate": False}
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "service.http.log.JsonLines"}},
    "handlers": {"lines": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
    "loggers": {
        "probewatch": _LOUD,
        "probewatch.http": {**_LOUD, "level": "WARNING"},
        "uvicorn": {**_LOUD, "level": "WARNING"},
    },
}

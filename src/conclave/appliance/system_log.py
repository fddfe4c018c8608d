"""The lines of `messages` and `lunalogs`, and their form on the wire; pure but for the file.

`messages` has what the daemon says, `lunalogs` logins and commands of LunaSH as the product writes
them.  A line is one line: control characters of a message are shown as escapes.
"""

from __future__ import annotations

import datetime
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MESSAGES: Final = "messages"
LUNALOGS: Final = "lunalogs"
LUSH_LOGGER: Final = "conclave.lush"
"""What is logged here goes to `lunalogs`."""
PRODUCT_LOGGER: Final = "conclave"
DAEMON: Final = 3
LOCAL5: Final = 21
_FACILITIES: Final = {DAEMON: "daemon", LOCAL5: "local5"}
_SEVERITIES: Final = (
    (logging.CRITICAL, 2, "crit"),
    (logging.ERROR, 3, "err"),
    (logging.WARNING, 4, "warning"),
    (logging.INFO, 6, "info"),
    (logging.DEBUG, 7, "debug"),
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
MAX_MESSAGE: Final = 8192


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the system log."""

    at: datetime.datetime
    """Appliance time in the appliance's zone."""
    host: str
    facility: int
    severity: int
    severity_name: str
    program: str
    pid: int
    message: str

    @property
    def log(self) -> str:
        """Return the name of the log that has it."""
        return LUNALOGS if self.facility == LOCAL5 else MESSAGES


def make_entry(record: logging.LogRecord, at: datetime.datetime, host: str) -> Entry:
    """Return what a record says."""
    lush = record.name == LUSH_LOGGER
    severity, name = next(
        ((number, name) for level, number, name in _SEVERITIES if record.levelno >= level),
        (7, "debug"),
    )
    text = record.getMessage()
    if record.exc_info and record.exc_info[0] is not None:
        # The trace itself is in the daemon's own log.
        text = f"{text} ({record.exc_info[0].__name__})"
    return Entry(
        at=at,
        host=host,
        facility=LOCAL5 if lush else DAEMON,
        severity=severity,
        severity_name=name,
        program="lunash" if lush else record.name,
        pid=record.process or 0,
        message=_CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text[:MAX_MESSAGE]),
    )


def file_line(entry: Entry) -> str:
    """Return a line of a log file, as the product writes it."""
    name = entry.severity_name
    program = f"{entry.program} [{entry.pid}]" if entry.facility == LOCAL5 else entry.program
    text = f"{name} : {entry.message}" if entry.facility == LOCAL5 else entry.message
    when = f"{entry.at:%Y %b %d %H:%M:%S}"
    return f"{when} {entry.host} {_FACILITIES[entry.facility]} {name} {program}: {text}\n"


def wire_message(entry: Entry) -> bytes:
    """Return a message of RFC 5424, without framing."""
    priority = entry.facility * 8 + entry.severity
    at = entry.at.isoformat(timespec="milliseconds")
    head = f"<{priority}>1 {at} {entry.host} {entry.program} {entry.pid} - - "
    # The mark says that the message is UTF-8 (section 6.4).
    return head.encode() + b"\xef\xbb\xbf" + entry.message.encode("utf-8", "replace")


class SystemLogHandler(logging.Handler):
    """Hands each line of Conclave's loggers to those who keep it."""

    def __init__(
        self, now: Callable[[], datetime.datetime], host: str, keep: Callable[[Entry], None]
    ) -> None:
        super().__init__(logging.INFO)
        self._now, self._host, self._keep = now, host, keep

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line; logging stops nobody."""
        try:
            self._keep(make_entry(record, self._now(), self._host))
        except (OSError, ValueError):
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing: the daemon's own log has the line, and counts what a disk did not take."""

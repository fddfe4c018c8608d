"""A host that receives syslog, over UDP, TCP or TLS, and remembers what it got."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from pathlib import Path
from typing import Self

MESSAGE = re.compile(
    rb"<(?P<priority>\d{1,3})>1 (?P<at>\S+) (?P<host>\S+) (?P<program>\S+) (?P<pid>\S+) - - "
    rb"\xef\xbb\xbf(?P<text>.*)",
    re.DOTALL,
)
"""RFC 5424 without structured data."""


class LogHost:
    """A receiver on a free port of an address."""

    def __init__(
        self, address: str, protocol: str, port: int = 0, tls_directory: Path | None = None
    ) -> None:
        self.messages: list[bytes] = []
        kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        self._socket = socket.socket(socket.AF_INET, kind)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((address, port))
        self._socket.settimeout(0.05)
        self.port: int = self._socket.getsockname()[1]
        if protocol != "udp":
            self._socket.listen()
        if tls_directory is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls_directory / "server.pem", tls_directory / "server.key")
            self._socket = context.wrap_socket(self._socket, server_side=True)
        target = self._datagrams if protocol == "udp" else self._streams
        self._thread = threading.Thread(target=target, daemon=True)
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_cause: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    @property
    def texts(self) -> list[str]:
        """Return what the messages say; fails for one that is not of RFC 5424."""
        found = [MESSAGE.fullmatch(each) for each in self.messages]
        assert all(found), self.messages
        return [each["text"].decode() for each in found if each]

    def _datagrams(self) -> None:
        while not self._ended.is_set():
            try:
                self.messages.append(self._socket.recv(65536))
            except TimeoutError:
                continue

    def _streams(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                # Nobody came, or one that trusts no certificate of ours.
                continue
            with connection:
                connection.settimeout(0.05)
                self._frames(connection)

    def _frames(self, connection: socket.socket) -> None:
        """Read octet-counted frames (RFC 6587) until the sender leaves, or the test."""
        held = b""
        while not self._ended.is_set():
            try:
                piece = connection.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return
            if not piece:
                return
            held += piece
            while (length := held.partition(b" ")[0]).isdigit() and b" " in held:
                end = len(length) + 1 + int(length)
                if len(held) < end:
                    break
                self.messages.append(held[len(length) + 1 : end])
                held = held[end:]

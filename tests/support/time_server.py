"""A time server that answers as a test wants: real NTP packets over UDP."""

from __future__ import annotations

import socket
import threading
import time
from typing import Self

import ntplib

NTP_TO_UNIX_SECONDS = 2_208_988_800.0
"""NTP's clock at the beginning of Unix time."""


class TimeServer:
    """An NTP responder whose clock is `ahead_seconds` before the host's."""

    def __init__(self, address: str, ahead_seconds: float = 0.0) -> None:
        self.ahead_seconds = ahead_seconds
        self.at_seconds: float | None = None
        """What its clock shows whenever it is asked, as NTP counts."""
        self.received_before_seconds = 0.0
        """How long it says that the question lay with it."""
        self.stratum = 2
        self.echoes = True
        """It answers the question that was asked, as a true server does."""
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def name(self) -> str:
        """Return what an administrator calls it."""
        host, port = self._socket.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_cause: object) -> None:
        # A question of our own ends the thread.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.sendto(b"end", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(512)
            if question == b"end":
                return
            self.asked += 1
            self._socket.sendto(self._answer(question), asker)

    def _answer(self, question: bytes) -> bytes:
        now = ntplib.system_to_ntp_time(time.time() + self.ahead_seconds)
        now = now if self.at_seconds is None else self.at_seconds
        packet = ntplib.NTPPacket(version=4, mode=4, tx_timestamp=now)
        packet.stratum = self.stratum
        packet.ref_timestamp = now
        packet.recv_timestamp = now - self.received_before_seconds
        answer: bytes = packet.to_data()
        originate = question[40:48] if self.echoes else bytes(8)
        return answer[:24] + originate + answer[32:]

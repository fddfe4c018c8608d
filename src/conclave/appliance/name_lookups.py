"""Look names of other hosts up, beside the event loop and beside its pool of threads.

Invariant: a name server that does not answer holds a thread of its own for as long as the host's
resolver tries (half a minute is usual), whoever gave up waiting; so few names are looked up at
once, and a stop of the daemon waits for none.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import threading
from typing import Final

MAX_AT_ONCE: Final = 16

_slots = threading.BoundedSemaphore(MAX_AT_ONCE)


async def look_up(host: str, port: int, kind: socket.SocketKind) -> tuple[str, ...]:
    """Return a host's addresses, in the resolver's order; one that is an address is its own.

    Raises OSError, also when MAX_AT_ONCE names are being looked up, and UnicodeError for no name.
    """
    with contextlib.suppress(ValueError):
        return (str(ipaddress.ip_address(host)),)
    if not _slots.acquire(blocking=False):
        raise OSError(errno.EAGAIN, "too many names are being looked up")
    loop = asyncio.get_running_loop()
    found: asyncio.Future[tuple[str, ...]] = loop.create_future()

    def tell(addresses: tuple[str, ...], error: OSError | UnicodeError | None) -> None:
        if found.done():
            return
        if error is None:
            found.set_result(addresses)
        else:
            found.set_exception(error)

    def work() -> None:
        addresses: tuple[str, ...] = ()
        error: OSError | UnicodeError | None = None
        try:
            infos = socket.getaddrinfo(host, port, type=kind)
            addresses = tuple(str(address[0]) for *_, address in infos)
        except (OSError, UnicodeError) as cause:
            error = cause
        finally:
            _slots.release()
        # The loop may have ended meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, addresses, error)

    threading.Thread(target=work, name=f"look-up of {host}", daemon=True).start()
    return await found

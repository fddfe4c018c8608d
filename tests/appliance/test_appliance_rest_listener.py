"""Where REST listens is changed while it serves, through real sockets."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from conclave.appliance.daemon import serve
from conclave.doors import make_doors
from conclave.settings import SshSettings
from tests.support.appliance_bench import DEADLINE_SECONDS, make_config, random_loopback

REQUEST = b"GET /api/lunasa/webServer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def answers(address: str, port: int) -> bool:
    """Tell whether REST answers at an address."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        reader, writer = await asyncio.open_connection(address, port, ssl=context)
    except OSError:
        return False
    writer.write(REQUEST)
    answer = await reader.read()
    writer.close()
    return answer.startswith(b"HTTP/1.1 401 ")


def test_rest_listens_where_it_is_told_and_after_a_restart_still(tmp_path: Path) -> None:
    addresses = [random_loopback(), random_loopback()]
    config = make_config(
        tmp_path / "state",
        interfaces=dict(zip(("eth0", "eth1"), addresses, strict=True)),
        ssh=SshSettings(enabled=False),
    )

    async def listening(*wanted: bool) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            found: list[bool] = []
            while found != list(wanted):
                found = [await answers(each, config.rest_port) for each in addresses]

    async def scene() -> None:
        async with serve(config, make_doors) as appliance:
            await listening(True, True)
            await appliance.webserver.change(net_device="eth1")
            await listening(False, True)
            await appliance.webserver.change(enabled=False)
            await listening(False, False)
            assert appliance.service("webserver").status == "stopped"
            await appliance.webserver.change(enabled=True)
            await listening(False, True)
            await appliance.webserver.restart()
            await listening(False, True)
            await appliance.webserver.change(enabled=False)
            await appliance.webserver.restart()
            await listening(False, True)
        async with serve(config, make_doors) as again:
            assert [await answers(each, config.rest_port) for each in addresses] == [False, True]
            await again.webserver.reset()
            await listening(True, True)

    asyncio.run(scene())

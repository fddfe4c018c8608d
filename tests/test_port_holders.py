"""Who holds a port that cannot be bound is named, be it a listener or a mere connection."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from conclave.appliance.network import bind_all, bind_socket, listen_on
from conclave.errors import NotAllowed
from conclave.port_holders import name_holder
from tests.support.appliance_bench import random_loopback
from tests.support.ports import free_port

OWN = f"process {os.getpid()} ({Path('/proc/self/comm').read_text().strip()})"


def test_a_listener_in_the_way_is_named() -> None:
    address = random_loopback()
    (taken,) = bind_all([address], 0, what="test")
    with taken:
        port = taken.getsockname()[1]
        with pytest.raises(NotAllowed, match="in use, held by a listener of") as refused:
            bind_socket(address, port, what="test")
        assert refused.value.message.endswith(f"{OWN}.")


def test_a_listener_on_every_address_is_in_the_way_of_one() -> None:
    port = free_port("0.0.0.0")  # noqa: S104
    with socket.create_server(("0.0.0.0", port)):  # noqa: S104
        held = f", held by a listener of {OWN}"
        assert name_holder("127.0.0.1", port) == name_holder("0.0.0.0", port) == held  # noqa: S104


def test_a_connection_whose_port_the_kernel_chose_is_named_with_its_other_end() -> None:
    address, elsewhere = random_loopback(), random_loopback()
    (server,) = bind_all([elsewhere], 0, what="test")
    peer_port = server.getsockname()[1]
    target = (elsewhere, peer_port)
    with server, socket.create_connection(target, 10, source_address=(address, 0)) as link:
        port = link.getsockname()[1]
        with pytest.raises(NotAllowed) as refused:
            bind_socket(address, port, what="test")
        held = f"held by a connection to {elsewhere} port {peer_port} of {OWN}."
        assert refused.value.message.endswith(held)


def test_nobody_is_named_where_the_port_is_free_or_held_on_another_address() -> None:
    address, other = random_loopback(), random_loopback()
    (taken,) = bind_all([other], 0, what="test")
    with taken:
        assert name_holder(address, taken.getsockname()[1]) == ""


def test_a_port_of_ipv6_is_seen_too() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        held = name_holder("::1", taken.getsockname()[1])
        assert held == f", held by a listener of {OWN}"


def test_a_listener_that_came_between_binding_and_listening_is_named() -> None:
    address = random_loopback()
    ours = bind_socket(address, 0, what="crypto")
    port = ours.getsockname()[1]
    with ours, socket.create_server((address, port)):
        with pytest.raises(NotAllowed, match=f"crypto listener cannot use {address}") as refused:
            listen_on(ours, what="crypto")
        assert refused.value.message.endswith(f"held by a listener of {OWN}.")

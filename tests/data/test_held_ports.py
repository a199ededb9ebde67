"""Ports for servers that begin later: theirs from the moment they are chosen."""

import asyncio
import contextlib
import errno
import socket
import struct
import sys
import wsgiref.simple_server

import pytest

from data.held_ports import held_ports

IP_LOCAL_PORT_RANGE = 51
"""Which ports the kernel may give to a socket (Linux 6.3; Python 3.11 has no name for it)."""


@pytest.fixture
def port():
    """A port that is held."""
    ports, held = held_ports(4)
    assert len(set(ports)) == 4
    yield ports[-1]
    for holder in held:
        holder.close()


def only(port):
    """A socket to which the kernel may give this port alone."""
    made = socket.socket()
    try:
        made.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("I", port << 16 | port))
    except OSError as error:
        made.close()
        pytest.skip(f"this kernel cannot narrow the range of ports: {error}")
    return made


@pytest.mark.skipif(sys.platform != "linux", reason="ports are held on Linux only")
@pytest.mark.parametrize("reuses", [False, True])
def test_the_kernel_gives_a_held_port_to_nobody(port, reuses):
    with contextlib.closing(only(port)) as server, pytest.raises(OSError) as refused:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuses)
        server.bind(("127.0.0.1", 0))
    assert refused.value.errno == errno.EADDRINUSE
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        contextlib.closing(only(port)) as client,
        pytest.raises(OSError) as refused,
    ):
        client.connect(server.getsockname())
    assert refused.value.errno == errno.EADDRNOTAVAIL


def test_each_kind_of_server_that_agents_start_gets_a_held_port(port):
    """The metrics exporter's, the agents' HTTP and gRPC, one after another."""
    from aiohttp import web
    from grpc import aio

    async def http():
        runner = web.AppRunner(web.Application())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await runner.cleanup()

    async def grpc():
        server = aio.server(options=[("grpc.so_reuseport", 0)])  # as Ray's
        assert server.add_insecure_port(f"127.0.0.1:{port}") == port
        await server.start()
        await server.stop(None)

    wsgiref.simple_server.make_server("127.0.0.1", port, None).server_close()
    asyncio.run(http())
    asyncio.run(grpc())

"""Ports that a server will bind a little later, kept from everyone else until then."""

import socket
import sys


def held_ports(count: int) -> tuple[list[int], list[socket.socket]]:
    """``count`` TCP ports, and the sockets that hold them, which do not listen: keep these while a server may begin.

    A port that was merely free when it was chosen may belong to another process by then: the kernel gives it to any
    connection. On Linux it gives a held port to nobody, but a server that asks for it by number and reuses addresses
    (SO_REUSEADDR), as those of Ray and PostgreSQL do, can bind it. Elsewhere it cannot: there nothing holds the ports.
    """
    holds = sys.platform == "linux"
    held = [socket.socket() for _ in range(count)]
    for holder in held:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, holds)
        holder.bind(("", 0))
    ports = [holder.getsockname()[1] for holder in held]
    while held and not holds:
        held.pop().close()
    return ports, held

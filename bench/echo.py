"""Request and response: a TCP server that echoes, and a client that counts how often one byte comes back.

A program of its own (`python echo.py serve ADDRESS PORT`, `python echo.py ask ADDRESS PORT SECONDS`), so that each
end runs on its host's core.
"""

import socket
import sys
import time

LISTENING = "listening"
_CLOCK_EVERY = 16


def serve(address: str, port: int) -> None:
    """Serve one client."""
    with socket.create_server((address, port)) as listener:
        print(LISTENING, flush=True)
        connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while byte := connection.recv(1):
            connection.send(byte)


def ask(address: str, port: int, seconds: float) -> float:
    """Give the answers per second."""
    with socket.create_connection((address, port), timeout=10.0) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        count, started = 0, time.monotonic()
        while (elapsed := time.monotonic() - started) < seconds:
            for _ in range(_CLOCK_EVERY):
                connection.send(b"?")
                if not connection.recv(1):
                    raise ConnectionError("the server closed the connection")
            count += _CLOCK_EVERY
    return count / elapsed


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", where, number]:
            serve(where, int(number))
        case ["ask", where, number, duration]:
            print(ask(where, int(number), float(duration)))
        case _:
            sys.exit(f"usage: {sys.argv[0]} serve ADDRESS PORT | ask ADDRESS PORT SECONDS")

"""Free ports for tests that start servers."""

import socket


def free_port() -> int:
    """Returns a port that no process of this machine listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""Has the session server (session_server.py) run a module: `session_client.py SOCKET FOLDER MODULE [ARGUMENT...]`.

Ends as the module did. FOLDER is where Python looks for modules first; empty: nowhere, as for a console script. This
program imports as little as it can, because it runs in place of one that the server saves from importing much.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence


def ask(address: str, request: Mapping[str, object], streams: Sequence[int]) -> int:
    """Send a server a request and the standard streams of its process; return the exit status once it has ended."""
    data = json.dumps(request).encode() + b"\n"
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        server.sendall(data[socket.send_fds(server, [data], streams) :])
        return int(server.recv(16) or -signal.SIGKILL)


def main() -> int:
    """Send this process's arguments, environment and standard streams; return the exit status."""
    address, folder, module, *arguments = sys.argv[1:]
    request = {"module": module, "args": arguments, "cwd": os.getcwd(), "first": folder, "env": dict(os.environ)}
    status = ask(address, request, [0, 1, 2])
    if status < 0:
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main())

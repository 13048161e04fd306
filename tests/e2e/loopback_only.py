"""Run a command where there is no network but loopback: `python loopback_only.py COMMAND …`.

In a network namespace of its own, as root, or in a user namespace where the system allows it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
REFUSED = 77
"""Exit code where the system lets nobody make such a namespace."""


def leave_the_network() -> None:
    """Move this process into a network namespace in which only loopback is up.

    Raises:
        OSError: the system does not allow it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    flags = _CLONE_NEWNET if user == 0 else _CLONE_NEWNET | _CLONE_NEWUSER
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare was refused")
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        asked = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        up = struct.unpack("16sH14x", asked)[1] | _IFF_UP
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", up))


if __name__ == "__main__":
    try:
        leave_the_network()
    except OSError as error:
        sys.stderr.write(f"no network namespace: {error}\n")
        sys.exit(REFUSED)
    os.execvp(sys.argv[1], sys.argv[1:])

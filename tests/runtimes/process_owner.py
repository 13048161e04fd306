"""An owner of a guard, as a script, so that a test can kill it.

    process_owner.py GUARD ARGUMENT...

Behaves as Ray's workers do where it matters: SIGINT blocked, niceness 15. Starts the guard with
itself as the owner and exits with the guard's status.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
os.nice(15)
guard, *arguments = sys.argv[1:]
command = [sys.executable, "-I", "-S", guard, "--owner-pid", str(os.getpid()), *arguments]
sys.exit(subprocess.run(command, start_new_session=True, check=False).returncode)

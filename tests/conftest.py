"""What every test relies on."""

from __future__ import annotations

import signal

# Jobs in a shell's background ignore SIGINT, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

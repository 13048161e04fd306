"""What the probe writes: lines of JSON, each told from other output by its tag."""

from __future__ import annotations

import json
import os
from typing import Any

TAG = "servetune-probe "


def say(line: dict[str, Any]) -> None:
    """One line, in one write: other processes write there too."""
    os.write(1, f"\n{TAG}{json.dumps(line)}\n".encode())

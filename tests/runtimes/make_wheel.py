"""Makes a tiny wheel, and is, inside a source package, the backend that pip builds it with.

Standard library only. As a backend it appends a line `pid others` to the file that `TINY_BUILDS`
names, `others` being the earlier builds that still run, and takes `TINY_PAUSE_S` seconds, in which
it does not mind SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

COUNTED = "TINY_BUILDS"
PAUSE = "TINY_PAUSE_S"


def make_wheel(folder: Path, name: str, version: str, requires: Sequence[str] = ()) -> Path:
    """A wheel with the module `name` and a command of the same name that prints its version."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {other}\n" for other in requires)
    files = {
        f"{name}.py": f"def main():\n    print({version!r})\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in files) + f"{info}/RECORD,,\n"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


def build_wheel(wheel_directory: str, *_settings: object) -> str:
    """What pip calls; see PEP 517."""
    facts = json.loads(Path(__file__).with_name("facts.json").read_text())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    counted = Path(os.environ[COUNTED])
    earlier = counted.read_text().splitlines() if counted.exists() else []
    others = sum(Path(f"/proc/{line.split()[0]}").exists() for line in earlier)
    with counted.open("a") as file:
        file.write(f"{os.getpid()} {others}\n")
    time.sleep(float(os.environ.get(PAUSE, "0")))
    if facts["broken"]:
        raise RuntimeError("this package cannot be built")
    return make_wheel(Path(wheel_directory), facts["name"], facts["version"]).name

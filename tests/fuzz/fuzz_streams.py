"""Fuzz the reading of responses: arbitrary bytes, cut anywhere, must give one sound record.

    python -m tests.fuzz.fuzz_streams [FOLDER] -runs=1000000 -max_len=4096

Needs `atheris`, which no test run needs and which is therefore no dependency of the project. The
inputs start from the corpus in `tests/golden/streams`; FOLDER keeps what was found on the way.
An input is a route and what its bytes are, a number of cuts, the cuts, and the bytes: all that the
server sends, or the events within a sound response.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["runtimes.load"]):
    from runtimes.load.job import Api
    from tests.runtimes.stream_reading import check, streamed

CORPUS = Path(__file__).parents[1] / "golden" / "streams"
APIS = tuple(Api)


def fuzz(data: bytes) -> None:
    """Read one input; an escaping exception is a finding."""
    if len(data) < 2:
        return
    cuts_end = 2 + 2 * (data[1] % 8)
    cuts = [int.from_bytes(data[at : at + 2], "big") for at in range(2, cuts_end, 2)]
    sent = streamed(data[cuts_end:]) if data[0] & 2 else data[cuts_end:]
    check(sent, cuts, APIS[data[0] & 1])


def seed(folder: Path) -> None:
    """Write the corpus as inputs into `folder`, responses and their events, with three cuts."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(CORPUS.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="ascii").splitlines()):
            case = json.loads(line)
            response = case["response"].encode("latin-1")
            cuts = b"".join((len(response) * k // 4).to_bytes(2, "big") for k in (1, 2, 3))
            events = b"".join(re.findall(rb"data: .*\n\n", response))
            for what, sent in ((0, response), (2, events)):
                head = bytes([APIS.index(Api(case["api"])) | what, 3])
                (folder / f"{path.stem}-{number}-{what}").write_bytes(head + cuts + sent)


async def main() -> None:
    """Fuzz from within a running loop, which connections ask for and which nothing waits on."""
    with tempfile.TemporaryDirectory() as seeds:
        seed(Path(seeds))
        atheris.Setup([*sys.argv, seeds], fuzz)
        atheris.Fuzz()


if __name__ == "__main__":
    asyncio.run(main())

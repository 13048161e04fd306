"""Make, once, a Python environment in which SGLang runs on the CPU, and print its interpreter.

    python examples/sglang_cpu_env.py

For tests of servetune: SGLang has no build for CPUs on PyPI. This installs its wheel without its
dependencies, takes torch, transformers and what else they share from the environment that
`vllm_cpu_env.py` makes, and puts empty modules in the place of libraries that SGLang imports and
that need a GPU (`sglang_cpu_stand_ins.py`). Its parser and its checks are the real ones. It serves
small models, slowly, with `--device cpu --attention-backend torch_native`; several ranks need the
variable SGLANG_CPU_OMP_THREADS_BIND, for example `0|1`.

The environment is `sglang-0.5.23` beside that of vLLM, in servetune's cache folder. Only the
interpreter's path goes to standard output, progress to standard error. Uses the standard library
alone.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import venv
from pathlib import Path

VERSION = "0.5.23"
HERE = Path(__file__).resolve().parent
STAND_INS = "sglang_cpu_stand_ins"
# Imported by SGLang, and not among what vLLM's environment has.
LIBRARIES = ("datasets", "easydict", "ipython", "modelscope", "orjson", "xxhash", "zstandard")
WITHOUT_DEPENDENCIES = ("gguf", f"sglang=={VERSION}")
_CHECK = (
    "from sglang.srt.server_args import prepare_server_args; "
    "from sglang.srt.arg_groups.validation_hook import check_server_args; "
    f"import sglang; assert sglang.__version__ == {VERSION!r}, sglang.__version__"
)


def main() -> int:
    """Make or reuse the environment; the exit status is 1 when it cannot be made."""
    try:
        python = ensure(vllm_environment())
    except (OSError, subprocess.CalledProcessError) as error:
        say(f"the environment of SGLang could not be made: {error}")
        return 1
    print(python)
    return 0


def vllm_environment() -> Path:
    """The folder of vLLM's environment, which is made when it is not there.

    Raises:
        subprocess.CalledProcessError: it cannot be made.
    """
    script = HERE / "vllm_cpu_env.py"
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip()).parent.parent


def ensure(vllm: Path) -> Path:
    """The interpreter of a complete environment beside `vllm`; built when there is none."""
    folder = vllm.with_name(f"sglang-{VERSION}")
    python, marker = folder / "bin" / "python", folder / ".complete"
    with folder.with_name(f"{folder.name}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (marker.exists() and python.exists()):
            build(folder, python, vllm)
            marker.write_text(f"sglang=={VERSION}\n", encoding="utf-8")
    return python


def build(folder: Path, python: Path, vllm: Path) -> None:
    """Build the environment from nothing, and check it."""
    say(f"{folder}: installing sglang {VERSION} beside {vllm.name}; takes some minutes, once")
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    shared = next((vllm / "lib").glob("python*/site-packages"))
    (packages / "vllm_cpu.pth").write_text(f"{shared}\n", encoding="utf-8")
    run(python, "-m", "pip", "install", "--quiet", *LIBRARIES)
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", *WITHOUT_DEPENDENCIES)
    shutil.copy(HERE / f"{STAND_INS}.py", packages)
    (packages / "sglang_cpu.pth").write_text(f"import {STAND_INS}\n", encoding="utf-8")
    run(python, "-c", _CHECK)


def run(python: Path, *arguments: str) -> None:
    """Run `python` with its output on standard error.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run([python, *arguments], stdout=sys.stderr, check=True)


def say(text: str) -> None:
    """Progress, to standard error."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

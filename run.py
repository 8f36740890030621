#!/usr/bin/env python3
"""Sets fusebench up in .venv and runs it.

    python3 run.py bench [--no-gpu] [--all] [--only NAME ...] [--backend FILE]
    python3 run.py test [--no-gpu] [--all] [arguments of pytest]

example: python3 run.py bench --only adam mnist

The first call installs, the following ones start at once; when setup.cfg has changed, what is
missing is added. --no-gpu installs no CuPy, and hides the GPU from one that is there.
Standard library only.
"""

import configparser
import ctypes
import hashlib
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "installed")  # of which setup.cfg, and which extras
BEGUN = "begun"  # stands there while pip writes
OLDEST = (3, 11)
# All tests, by two processes: see tests/conftest.py. One that crashes ends the run.
HALVES = ("-n", "2", "--dist", "loadgroup", "--max-worker-restart", "0")
# With the slow ones one half would take twice as long as the other: whoever is idle takes tests.
SINGLY = ("-n", "2", "--dist", "worksteal", "--max-worker-restart", "0")
# Tests use large arrays for short times. The GNU C library would give each back and take fresh
# pages for the next, which the system clears one by one: half of the time, on some machines.
KEEPING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}


class Problem(Exception):
    """Something the user can mend; the message is one line that says how."""


def main(arguments):
    if not arguments or arguments[0] not in ("bench", "test"):
        print(__doc__.strip())
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    command, *rest = arguments
    gpu = "--no-gpu" not in rest
    rest = [argument for argument in rest if argument != "--no-gpu"]
    try:
        check_python()
        if command == "bench":
            check_checkout()
        install({"test", cupy_extra(driver_version())} if gpu else {"test"})
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the next call goes on with the installation", file=sys.stderr)
        return 130
    if not gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    module = ["benchmarks", "run"] if command == "bench" else ["pytest"]
    if command == "test":
        os.environ.update(KEEPING)
        if set(rest) <= {"--all"}:
            rest = [*(SINGLY if rest else HALVES), *rest]
    os.chdir(ROOT)
    return os.execv(PYTHON, [PYTHON, "-m", *module, *rest])


def check_python(version=sys.version_info):
    if tuple(version[:2]) < OLDEST:
        raise Problem(f"Python 3.11 or newer is needed, this is {version[0]}.{version[1]}")


def check_checkout():
    """asv records results by commit, so it needs the repository."""
    command = ["git", "rev-parse", "--verify", "HEAD"]
    try:
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        raise Problem("git is not installed (Debian, Ubuntu: apt install git)") from None
    if answer.returncode != 0:
        reason = (answer.stderr.strip().splitlines() or ["no commit"])[0]
        raise Problem(f"{ROOT} is not a git checkout, get it with git clone: {reason}")


def driver_version(load=ctypes.CDLL):
    """The CUDA major version that the NVIDIA driver supports, or None where there is no driver."""
    version = ctypes.c_int()
    try:
        if load("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version)) != 0:
            return None
    except OSError:
        return None
    return version.value // 1000


def cupy_extra(version):
    """The extra of setup.cfg with the CuPy for this driver; without one, to compile and to test."""
    if version is None:
        return "compile"
    if version < 12:
        raise Problem(
            f"the NVIDIA driver supports CUDA {version}, CuPy needs 12: update it or add --no-gpu"
        )
    return "gpu12" if version == 12 else "gpu13"


def install(extras):
    """Makes .venv where there is none that works, and adds to it what setup.cfg asks for.

    What the user has installed there stays.
    """
    of, (state, *there) = fingerprint(), stamp()
    if state == of and extras <= set(there) and os.access(PYTHON, os.X_OK):
        return
    try:
        import ensurepip  # noqa: F401  Debian ships venv without it
        import venv
    except ImportError:
        raise Problem(
            "Python's venv module is missing (Debian, Ubuntu: apt install python3-venv)"
        ) from None
    if usable():
        print("Adding to .venv what is missing ...", flush=True)
    else:
        print("Setting up .venv (a few minutes, once) ...", flush=True)
        venv.create(VENV, clear=True, with_pip=True)
        state, there = "", []
    # Of CuPy there may be one alone; where none is asked for, the one that is there stays.
    gone = set(there) - extras if extras - {"test"} else set()
    extras = extras | set(there) - gone

    def begun():
        write_stamp(BEGUN, extras | gone)

    names = packages(gone) - packages(extras)
    if names:
        begun()
        pip("uninstall", "--yes", *sorted(names))
    # Where pip was interrupted there may be packages of which only a part is there.
    again = ["--force-reinstall"] if state == BEGUN else []
    options = ["--retries", "2", "--progress-bar", "off", *again]
    pip("install", *options, "--editable", f"{ROOT}[{','.join(sorted(extras))}]", begun=begun)
    write_stamp(of, extras)


def usable():
    """Whether .venv has a Python of this version, with pip."""
    code = "import pip._internal.commands.install, sys; print(*sys.version_info[:2])"
    try:
        answer = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True)
    except OSError:
        return False
    return answer.stdout.split() == [str(number) for number in sys.version_info[:2]]


def stamp():
    """[fingerprint, or BEGUN, or nothing; the extras that are installed]."""
    if not os.path.isfile(STAMP):
        return [""]
    with open(STAMP) as file:
        return file.read().split() or [""]


def write_stamp(state, extras):
    with open(STAMP, "w") as file:
        file.write("\n".join([state, *sorted(extras)]))


def packages(extras):
    """The names of the packages that these extras of setup.cfg ask for."""
    settings = configparser.ConfigParser()
    settings.read(os.path.join(ROOT, "setup.cfg"))
    known = settings["options.extras_require"]
    lines = "\n".join(known.get(extra, "") for extra in extras).split("\n")
    return {re.match(r"[\w-]+", line).group() for line in lines if line}


def fingerprint():
    """What an installation depends on beside the extras, as a hash."""
    parts = [VENV, *map(str, sys.version_info[:2])]
    for name in ("setup.cfg", "pyproject.toml"):
        with open(os.path.join(ROOT, name)) as file:
            parts.append(file.read())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def pip(*arguments, begun=None):
    """Calls pip, one line of progress for every package; on failure says what pip said.

    begun: called when pip has all that it needs and begins to write.
    """
    process = subprocess.Popen(
        [PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = []
    for line in process.stdout:
        said.append(line.strip())
        if begun and line.startswith("Installing collected"):
            begun()
        if line.startswith(("Collecting", "Installing collected")):
            print("  " + line.strip()[:100], flush=True)
    if process.wait() == 0:
        return
    if any("Retrying (Retry(" in line for line in said):
        raise Problem("no network: pip cannot reach the package index")
    errors = [line for line in said if line.startswith("ERROR")] or said[-1:]
    raise Problem(f"pip could not install fusebench: {errors[0]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

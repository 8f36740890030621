"""All that a machine with a GPU and without network needs, in one file.

It holds the files of the last commit, the commit's hash as the file COMMIT, and the data, which
are made from packages that may be missing there.
"""

import io
import subprocess
import tarfile

from ..suites import workloads

FOLDER = "fusebench"
CACHE = workloads.ROOT / ".cache"


def write(folder=CACHE):
    """Writes fusebench-<commit>.tar.gz and returns its path.

    Raises RuntimeError where this is no git checkout, or one with changes.
    """
    commit = _git("rev-parse", "HEAD").decode().strip()
    if changed := _git("diff", "--name-only", "HEAD").decode().split():
        raise RuntimeError(f"what is packed is the last commit: commit {', '.join(changed)} first")
    path = folder / f"{FOLDER}-{commit[:8]}.tar.gz"
    tracked = io.BytesIO(_git("archive", "--format=tar", "HEAD"))
    with tarfile.open(fileobj=tracked) as files, tarfile.open(path, "w:gz") as archive:
        for member in files:
            inside = files.extractfile(member) if member.isfile() else None
            member.name = f"{FOLDER}/{member.name}"
            archive.addfile(member, inside)
        text = tarfile.TarInfo(f"{FOLDER}/COMMIT")
        text.size = len(commit) + 1
        archive.addfile(text, io.BytesIO(f"{commit}\n".encode()))
        for data in map(workloads.cached, workloads.SIZES):
            archive.add(data, f"{FOLDER}/.cache/{data.relative_to(CACHE)}")
    return path


def _git(*arguments):
    command = ["git", "-C", str(workloads.ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True)
    except FileNotFoundError:
        raise RuntimeError("git is not installed (Debian, Ubuntu: apt install git)") from None
    if done.returncode:
        raise RuntimeError(done.stderr.decode().strip())
    return done.stdout

"""Files and folders are written whole or not at all: aside first, then renamed into place."""

import fcntl
import hashlib
import json
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from recsys.errors import OutputExistsError, RecsysError


def require_absent(path: Path, *, force: bool) -> None:
    """Raise an OutputExistsError when ``path`` exists, an empty folder apart, and ``force`` is false."""
    if not force and path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise OutputExistsError(f"{path} already exists; pass --force (force=True) to replace it, or name another")


@contextmanager
def replacing(path: Path, marker: str | None = None) -> Iterator[Path]:
    """Yield a temporary sibling of the file or folder ``path``; on success rename it to ``path``, else remove it.

    Of a folder ``marker`` is a file that only we write into it: without one no folder is replaced, for it is somebody
    else's. It is moved aside first and removed only when the new one stands in its place. An OutputExistsError says
    what stands there; a RecsysError that the disk is full or the place cannot be written: what stood there stays.
    """
    if path.is_dir() and any(path.iterdir()) and not (marker and (path / marker).is_file()):
        what = f"holds other files (no {marker})" if marker else "is a folder, expected a file"
        raise OutputExistsError(f"{path} {what}; nothing is removed that recsys did not write: name another place")
    aside, old = (path.with_name(f".{path.name}.{secrets.token_hex(4)}.{end}") for end in ("part", "old"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        if not path.is_dir():
            aside.replace(path)
            return
        path.rename(old)
        try:
            aside.rename(path)
        except OSError:
            old.rename(path)
            raise
        remove(old)
    except OSError as error:
        raise RecsysError(
            f"could not write {path}: {error.strerror or error}; nothing was changed there; "
            "free some space or choose another place, then run the command again"
        ) from error
    finally:
        remove(aside)


@contextmanager
def unfinished(path: Path, identity: str) -> Iterator[Path]:
    """Yield a folder beside ``path`` for parts of it, which a killed command finds again; in the end remove it.

    ``identity`` tells this work from any other. What others left unfinished of the same output goes too, in the end.
    An OutputExistsError says that another process is at the same work.
    """
    name = re.compile(re.escape(f".{path.name}.") + r"[0-9a-f]{16}\.chunks")
    folder = path.with_name(f".{path.name}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}.chunks")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise RecsysError(f"could not write {path}: {error.strerror or error}; choose another place") from error
    with lock:
        if not _locked(lock):
            raise OutputExistsError(f"another command is writing {path}; wait for it, or name another output")
        try:
            yield folder
        finally:
            if not any(part.name != "lock" for part in folder.glob("*")):  # nothing to go on from
                remove(folder)
        remove(folder)
        for other in [each for each in path.parent.iterdir() if each.is_dir() and name.fullmatch(each.name)]:
            with (other / "lock").open("w") as its_lock:
                if _locked(its_lock):
                    remove(other)


def _locked(lock: IO[str]) -> bool:
    """Return whether a lock could be taken, until the file is closed or the process ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove(path: Path) -> None:
    """Remove a file or a folder, a link and not what it leads to; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists() or path.is_symlink():  # asking first: unlink fails where a parent is a file
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Write ``value`` to ``path`` as indented JSON, whole or not at all; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """Return the JSON value in ``path``; RecsysError where the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecsysError(f"{path} is missing") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RecsysError(f"{path} is not JSON ({error}); it may have been cut short or edited") from error


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def code_version() -> str:
    """Return the git commit of the working tree, with ``+changes`` if it is not clean; "unknown" outside git.

    What benchmarks write is no change of the code: they write while others of them still train.
    """
    folder, written = Path(__file__).parent, ("benchmarks/RESULTS.md", "benchmarks/results")
    status = ["git", "status", "--porcelain", "--untracked-files=no", "--", ":/"]
    commands = (
        ["git", "rev-parse", "--short=12", "HEAD"],
        [*status, *(f":(top,exclude){path}" for path in written)],
    )
    try:
        quietly: dict[str, Any] = {"cwd": folder, "stderr": subprocess.DEVNULL, "text": True}
        commit, changes = (subprocess.check_output(command, **quietly).strip() for command in commands)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+changes" if changes else commit

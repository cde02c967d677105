"""Fetch the three tables of the H&M competition from Kaggle; the pictures are left where they are."""

import contextlib
import importlib
import logging
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from recsys.console import talk
from recsys.data.sources.hm import FILES
from recsys.errors import DataError, RecsysError
from recsys.storage import replacing, require_absent

COMPETITION: Final = "h-and-m-personalized-fashion-recommendations"
RULES_URL: Final = f"https://www.kaggle.com/competitions/{COMPETITION}/rules"
TOKEN_URL: Final = "https://www.kaggle.com/settings"  # noqa: S105 - a page, no password
_NO_CREDENTIALS = (
    f"no Kaggle credentials; make a token at {TOKEN_URL} (API, Create New Token) and put it at "
    "~/.kaggle/kaggle.json, or set KAGGLE_USERNAME and KAGGLE_KEY"
)
_BY_STATUS = {
    401: f"Kaggle refused the credentials (401); make a new token at {TOKEN_URL} and put it at ~/.kaggle/kaggle.json, "
    "or set KAGGLE_USERNAME and KAGGLE_KEY",
    403: f"Kaggle refused access (403): the rules of the competition are not accepted yet; log in, accept them at "
    f"{RULES_URL}, then try again",
    404: f"Kaggle has no such file (404); look at {RULES_URL.removesuffix('rules')}data whether the files were renamed",
    429: "Kaggle asks to slow down (429); wait some minutes, then try again",
}


def download_hm(folder: Path, *, force: bool = False) -> None:
    """Write ``articles.csv``, ``customers.csv`` and ``transactions_train.csv`` (3.5 GB) into ``folder``, all or none.

    ``kagglehub`` is used where it is installed (it keeps a copy in its cache and resumes there), else ``kaggle``.

    Raises:
        OutputExistsError: one of the files exists and ``force`` is false.
        RecsysError: no client, no credentials, rules not accepted, no network, or no space.
    """
    for name in FILES:
        require_absent(folder / name, force=force)
    fetch = _client()
    with contextlib.ExitStack() as stack:
        targets = {name: stack.enter_context(replacing(folder / name)) for name in FILES}
        for name, target in targets.items():
            talk.print(f"fetching {name} of {COMPETITION}")
            room = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent)))
            _unpack(fetch(name, room, force), name, target)
    talk.print(f"wrote {', '.join(FILES)} to {folder}")


def _client() -> Callable[[str, Path, bool], Path]:
    """Return how to fetch a file by name, given an empty folder and whether to fetch anew."""
    for module, fetch in (("kagglehub", _fetch_with_kagglehub), ("kaggle.api.kaggle_api_extended", _fetch_with_kaggle)):
        # The clients print on stdout while they are imported; stdout is for data.
        with contextlib.suppress(ImportError), contextlib.redirect_stdout(sys.stderr):
            importlib.import_module(module)
            return fetch
    raise RecsysError("neither kagglehub nor kaggle can be imported; run `pip install 'recsys[hm]'`, then try again")


def _fetch_with_kagglehub(name: str, room: Path, force: bool) -> Path:
    import kagglehub
    from kagglehub import exceptions

    logging.getLogger("kagglehub").setLevel(logging.WARNING)  # its messages go to stdout
    try:
        return Path(kagglehub.competition_download(COMPETITION, path=name, force_download=force))
    except (exceptions.UnauthenticatedError, exceptions.CredentialError) as error:
        raise RecsysError(_NO_CREDENTIALS) from error
    except exceptions.DataCorruptionError as error:
        raise RecsysError(f"{name} arrived damaged; nothing was kept of it; try again") from error
    except ValueError as error:  # how it reports a kaggle.json that cannot be used
        raise RecsysError(f"{_one_line(error)}; make a new token at {TOKEN_URL} and put it there") from error
    except OSError as error:
        raise _explained(error) from error


def _fetch_with_kaggle(name: str, room: Path, force: bool) -> Path:
    try:
        with contextlib.redirect_stdout(sys.stderr):
            api = importlib.import_module("kaggle.api.kaggle_api_extended").KaggleApi()
            api.authenticate()
            api.competition_download_file(COMPETITION, name, path=str(room), force=force, quiet=False)
    except SystemExit as error:  # how it reports that there are no credentials
        raise RecsysError(_NO_CREDENTIALS) from error
    except OSError as error:
        raise _explained(error) from error
    fetched = sorted(room.iterdir())
    if not fetched:
        raise RecsysError(f"Kaggle's client fetched nothing for {name}; try again, or `pip install 'recsys[hm]'`")
    return fetched[0]


def _explained(error: OSError) -> RecsysError:
    """Return one line about an error of ``requests`` (all of them are OSErrors) or of the disk."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        return RecsysError(_BY_STATUS.get(status, f"Kaggle answered {status}; try again later"))
    if isinstance(error, requests.RequestException):
        return RecsysError(
            f"Kaggle cannot be reached ({type(error).__name__}); check the network or proxy, then try again"
        )
    return RecsysError(f"the download could not be stored: {_one_line(error)}; free some space, then try again")


def _unpack(fetched: Path, name: str, target: Path) -> None:
    """Copy what was fetched to ``target``; a zip, which Kaggle makes of large files, is opened."""
    if zipfile.is_zipfile(fetched):
        with zipfile.ZipFile(fetched) as archive:
            if name not in archive.namelist():
                raise DataError(f"the archive from Kaggle holds {', '.join(archive.namelist())}, expected {name}")
            with archive.open(name) as packed, target.open("wb") as stream:
                shutil.copyfileobj(packed, stream, 1 << 20)
    else:
        shutil.copyfile(fetched, target)
    if target.stat().st_size == 0:
        raise DataError(f"{name} came empty from Kaggle; try again with --force")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())

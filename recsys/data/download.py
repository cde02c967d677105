"""Fetch the three tables of the H&M competition from Kaggle; the pictures are left where they are."""

import contextlib
import logging
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Final

from recsys.console import talk
from recsys.data.sources.hm import FILES
from recsys.errors import DataError, RecsysError
from recsys.storage import replacing, require_absent

COMPETITION: Final = "h-and-m-personalized-fashion-recommendations"
RULES_URL: Final = f"https://www.kaggle.com/competitions/{COMPETITION}/rules"
TOKEN_URL: Final = "https://www.kaggle.com/settings"  # noqa: S105 - a page, no password
_PLACE = "put it at ~/.kaggle/kaggle.json, or set KAGGLE_USERNAME and KAGGLE_KEY"
_BY_STATUS = {
    401: f"Kaggle refused the credentials (401); make a new token at {TOKEN_URL} and {_PLACE}",
    403: f"Kaggle refused access (403): the rules of the competition are not accepted yet; log in, accept them at "
    f"{RULES_URL}, then try again",
    404: f"Kaggle has no such file (404); look at {RULES_URL.removesuffix('rules')}data whether the files were renamed",
    429: "Kaggle asks to slow down (429); wait some minutes, then try again",
}


def download_hm(folder: Path, *, force: bool = False) -> None:
    """Write ``articles.csv``, ``customers.csv`` and ``transactions_train.csv`` (3.5 GB) into ``folder``, all or none.

    ``kagglehub`` keeps a copy in its cache and resumes there. OutputExistsError where one of the files exists and
    ``force`` is false; RecsysError says what else is amiss: no client, credentials, accepted rules, network or space.
    """
    for name in FILES:
        require_absent(folder / name, force=force)
    with contextlib.ExitStack() as stack:
        targets = {name: stack.enter_context(replacing(folder / name)) for name in FILES}
        for name, target in targets.items():
            talk.print(f"fetching {name} of {COMPETITION}")
            _unpack(_fetch(name, force=force), name, target)
    talk.print(f"wrote {', '.join(FILES)} to {folder}")


def _fetch(name: str, *, force: bool) -> Path:
    """Return where the file lies in the client's cache."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it prints while it is imported; stdout is for data
            import kagglehub
            import requests
            from kagglehub import exceptions
    except ImportError as error:
        raise RecsysError("kagglehub cannot be imported; run `pip install 'recsys[hm]'`, then try again") from error
    logging.getLogger("kagglehub").setLevel(logging.WARNING)  # its messages go to stdout
    try:
        return Path(kagglehub.competition_download(COMPETITION, path=name, force_download=force))
    except (exceptions.UnauthenticatedError, exceptions.CredentialError) as error:
        how = f"make a token at {TOKEN_URL} (API, Create New Token) and {_PLACE}"
        raise RecsysError(f"no Kaggle credentials; {how}") from error
    except exceptions.DataCorruptionError as error:
        raise RecsysError(f"{name} arrived damaged; nothing was kept of it; try again") from error
    except requests.RequestException as error:
        if error.response is None:
            reason = f"Kaggle cannot be reached ({type(error).__name__}); check the network or proxy, then try again"
        else:
            status = error.response.status_code
            reason = _BY_STATUS.get(status, f"Kaggle answered {status}; try again later")
        raise RecsysError(reason) from error
    except OSError as error:
        said = " ".join(str(error).split())
        raise RecsysError(f"the download could not be stored: {said}; free some space, then try again") from error
    except ValueError as error:  # how it reports a kaggle.json that cannot be used
        said = " ".join(str(error).split())
        raise RecsysError(f"{said}; make a new token at {TOKEN_URL} and put it there") from error


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

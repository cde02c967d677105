"""Spark sessions: somebody's own, one of a cluster by its address, or a new one on this machine."""

import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from recsys.errors import DataError, UsageError

#: A session of Spark, or the address of a cluster; None is what spark-submit or this machine offers.
Spark: TypeAlias = Any


@contextmanager
def spark_session(spark: Spark = None) -> Iterator[Any]:
    """Yield a session of Spark, which is stopped at the end if it was begun here; a UsageError says what is missing."""
    if spark is not None and not isinstance(spark, str):
        yield spark
        return
    try:
        sql = import_module("pyspark.sql")
    except ImportError as error:
        raise UsageError("Spark needs PySpark: pip install 'recsys[spark]'") from error
    is_connect = spark is not None and spark.startswith("sc://")
    if not (is_connect or "JAVA_HOME" in os.environ or shutil.which("java")):
        raise UsageError(
            "Spark needs Java 17 or later, and found none; install one (apt-get install openjdk-17-jre-headless), set "
            "JAVA_HOME, or name a server by --spark sc://host:15002, which needs none here"
        )
    # Else executors start whatever `python3` is on their path, which may be another version without this package.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = sql.SparkSession.builder.appName("recsys")
    if spark is not None:
        builder = builder.remote(spark) if is_connect else builder.master(spark)
    was_active = sql.SparkSession.getActiveSession() is not None
    place = (spark or "the usual place").partition(";")[0]  # a token may stand behind the address
    if is_connect:
        server = urlsplit(place)
        try:  # Spark itself would try again for many minutes, and say nothing
            socket.create_connection((server.hostname or "", server.port or 15002), timeout=10).close()
        except (OSError, ValueError) as error:
            raise DataError(f"no Spark server answers at {place} ({error}); start one, or mend --spark") from error
    with spark_errors(f"Spark at {place}"):
        session = builder.config("spark.ui.showConsoleProgress", "false").getOrCreate()
    try:
        yield session
    finally:
        if not was_active:
            session.stop()


@contextmanager
def spark_errors(what: str) -> Iterator[None]:
    """Raise what Spark says of ``what`` as a DataError of one line; what executors lack, as a UsageError."""
    errors = import_module("pyspark.errors").PySparkException, import_module("py4j.protocol").Py4JError
    try:
        yield
    except errors as error:
        said = str(error)
        if lacking := re.search(r"ModuleNotFoundError: No module named '(\w+)|PYTHON_VERSION_MISMATCH", said):
            raise UsageError(
                f"the Python of Spark's executors lacks {lacking[1] or 'the version of this one'}; install recsys "
                "there as here, and set PYSPARK_PYTHON to that Python (docs/scale.md)"
            ) from error
        reason = re.search(r"(?:^|: )([\w.]*(?:Error|Exception): .*)", said, re.MULTILINE)
        raise DataError(f"{what}: {' '.join((reason[1] if reason else said).split())[:300]}") from error


def local_place(path: Path, *, to_read: bool = False) -> str:
    """Return how Spark is told of a file or folder that all its machines see under ``path``."""
    # What is read may be a pattern, so that brackets of a name are escaped.
    return "file://" + re.sub(r"([\\*?{}\[\]])", r"\\\1" if to_read else r"\1", str(path.resolve()))

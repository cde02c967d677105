"""Encodings of text files: what the bytes give away, or what the letters make likely."""

import codecs
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeVar

import charset_normalizer
import numpy as np
import polars as pl

from recsys.errors import DataError

R = TypeVar("R")

_BLOCK_BYTES: Final = 1 << 18  # what stays in a core's cache
_ASCII: Final = 127
_LINE_END: Final = re.compile("\r+\n|\r")
_HEAD_BYTES: Final = 1 << 18
#: Share of zero bytes in text of two bytes a letter at least; less are damage.
_ZEROS: Final = 0.1
#: Code pages that a shop's programs write; charset-normalizer chooses among them.
_CODE_PAGES: Final = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1257", "cp932", "gb18030", "big5", "cp949"]
#: What Western Europe writes beyond ASCII, less what is rare there and in cp1250, cp1254 or cp1257 a common letter.
_WESTERN: Final = frozenset(
    "àáâãäåæçèéêëìíîïñòóôõöøùúûüßœÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜŒ¡«»°€£§ºª‘’“”„–—™®©…•·×½¼¾²´\u00a0"
)
#: What ş, ı, ğ and their capitals look like in cp1252, and the other letters of Turkish.
_TURKISH, _TURKISH_TOO = frozenset("þýðÞÝÐ"), frozenset("öüçâîûÖÜÇ")


def as_utf8(path: Path, stated: str | None, scratch: Path, origin: Path) -> tuple[Path, list[str]]:
    """Return ``path``, or a copy of it in UTF-8, and a note where its encoding was guessed."""
    known = stated or _encoding_of(path)
    found = known or _guessed_encoding(path, origin)
    try:
        name = codecs.lookup(found).name
    except LookupError as error:
        raise DataError(
            f"{origin}: encoding: {found} is not known; write one such as utf-8, cp1252 or utf-16"
        ) from error
    is_plain = name in ("utf-8", "utf-8-sig", "ascii") and not _has_odd_line_ends(path)
    if is_plain and ((stated is None and name == "utf-8") or _is_utf8(path)):  # all was looked at where it is unmarked
        return path, []
    copy = scratch / f"{len(list(scratch.iterdir()))}.txt"
    try:
        with path.open(encoding=name, newline="") as source, copy.open("w", encoding="utf-8", newline="\n") as target:
            begun = ""  # a line end, perhaps
            while text := source.read(_BLOCK_BYTES):
                whole = (begun + text).rstrip("\r")
                begun = (begun + text)[len(whole) :]
                target.write(_LINE_END.sub("\n", whole))
            target.write("\n" * bool(begun))
    except UnicodeError as error:
        raise DataError(
            f"{origin} is not encoded as {found} ({error}); say what it is with encoding: NAME in the map, such as "
            "cp1252, or save it as UTF-8 (in Excel: CSV UTF-8)"
        ) from error
    return copy, [] if known else [f"encoding {name} (guessed from its letters; else say encoding: NAME)"]


def _encoding_of(path: Path) -> str | None:
    """Return the encoding that the first bytes give away, UTF-8 where all bytes are; None where it must be guessed."""
    with path.open("rb") as stream:
        head = stream.read(4096)
    marks = (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    )
    for mark, name in marks:
        if head.startswith(mark):
            return name
    zeros = np.frombuffer(head, np.uint8) == 0
    if len(head) and zeros.mean() > _ZEROS:  # Western text in two bytes a letter has a zero in every second
        return "utf-16-le" if zeros[1::2].mean() > zeros[::2].mean() else "utf-16-be"
    return "utf-8" if _is_utf8(path) else None


def over_parts(path: Path, read: Callable[[Iterator[np.ndarray]], R]) -> list[R]:
    """Return what ``read`` makes of the bytes, uint8, of each part of a file, which come a block at a time."""
    n_bytes = path.stat().st_size
    edges = np.linspace(0, n_bytes, 1 + min(pl.thread_pool_size(), 1 + n_bytes // _BLOCK_BYTES)).astype(np.int64)
    with ThreadPoolExecutor(len(edges) - 1) as pool:
        return list(pool.map(lambda part: read(_blocks(path, *part)), pairwise(edges.tolist())))


def _blocks(path: Path, begin: int, end: int) -> Iterator[np.ndarray]:
    buffer = np.empty(_BLOCK_BYTES, dtype=np.uint8)
    with path.open("rb", buffering=0) as stream:
        stream.seek(begin)
        while n_bytes := stream.readinto(buffer[: end - stream.tell()].data):
            yield buffer[:n_bytes]


def _is_utf8(path: Path) -> bool:
    if all(over_parts(path, lambda blocks: all(block.max() <= _ASCII for block in blocks))):
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in _blocks(path, 0, path.stat().st_size):
            if block.max() > _ASCII or decoder.getstate()[0]:
                decoder.decode(block.tobytes())
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _has_odd_line_ends(path: Path) -> bool:
    """Return whether lines end with a carriage return alone, as old Macs wrote them, or with two and a line feed."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    return b"\r\r\n" in head or (b"\r" in head and b"\n" not in head)


def _guessed_encoding(path: Path, origin: Path) -> str:
    """Return the code page in which the lines with letters beyond ASCII make most sense."""
    lines, n_utf8, n_others, first = bytearray(), 0, 0, 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.isascii():
                continue
            try:
                line.decode()
                n_utf8 += 1
            except UnicodeDecodeError:
                lines, n_others, first = lines + line, n_others + 1, first or number
            if len(lines) > 1 << 14:
                break
    if n_utf8 > n_others:
        raise DataError(
            f"{origin} is UTF-8, but line {first} is not; mend it, and others if there are such, or say encoding: NAME"
        )
    western = bytes(lines).decode("cp1252", errors="replace")
    if _looks_western(western):
        return "cp1252"
    beyond = {letter for letter in western if letter.isalpha() and not letter.isascii()}
    if len(beyond & _TURKISH) > 1 and beyond <= _TURKISH | _TURKISH_TOO:
        return "cp1254"
    best = charset_normalizer.from_bytes(bytes(lines), cp_isolation=_CODE_PAGES).best()
    if best is None:
        raise DataError(f"{origin} is not UTF-8, and its encoding is not clear; say encoding: NAME, such as cp1252")
    return "cp1252" if western == str(best) else best.encoding


def _looks_western(text: str) -> bool:
    """Return whether the letters beyond ASCII are Western, and stand among plain ones.

    >>> [_looks_western(text) for text in ("1,Crème brûlée", "1,×àøêà", "1,Pøíliš", "1,Üvegpohár fûszertartó")]
    [True, False, False, False]
    """
    beyond = {letter for letter in text if not letter.isascii()}
    if not beyond <= _WESTERN or (beyond & set("õûÕÛ") and not beyond & set("ãçèêâîñ")):  # ő and ű of Hungarian
        return False
    words = "".join(word for word in re.findall(r"\w+", text) if not word.isascii())
    return sum(not letter.isascii() for letter in words) <= len(words) / 2

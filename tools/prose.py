"""Sentences of pages in Markdown, and which of them are long."""

import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

#: Words of a sentence at most.
LONG_SENTENCE: Final = 30
#: The median sentence of a page is below it.
MEDIAN_SENTENCE: Final = 15

#: What stands in a page between the marks of tools/pages.py: made from the code, and written by nobody.
GENERATED: Final = re.compile(r"(<!-- generated: (\w+) -->).*?(<!-- end -->)", re.DOTALL)

#: A sentence goes on after them, or after these where a number follows.
_ABBREVIATIONS: Final = frozenset(("al", "approx", "ca", "cf", "dr", "e.g", "i.e", "mr", "mrs", "resp", "vs"))
_RUSSIAN_ABBREVIATIONS: Final = frozenset(("им", "напр", "см", "ср", "т", "т.е"))
_NUMBERED: Final = frozenset(
    ("ch", "eq", "eqs", "fig", "figs", "no", "p", "pp", "sec", "vol", "гл", "рис", "стр", "табл")
)
_FENCE: Final = re.compile(r"\s*(?:>\s*)*(```+|~~~+|\$\$(?!.*\S\$\$\s*$))")
_ITEM: Final = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+(?:\[[ x]\]\s+)?")
_SKIPPED: Final = re.compile(r"\s*(?:\||\$\$|#{1,6}\s|\[[^\]]+\]:\s|!!!|\?\?\?|(?:[-*_]\s*){3,}$|$)")
_CODE: Final = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
_END: Final = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s)")


def sentences(text: str) -> list[str]:
    r"""Return the sentences of a page in Markdown: of its paragraphs, list items and quotations.

    Code blocks, tables, headings, comments, images and the targets of links are left out. Code within a line is a word.

    >>> sentences("# Head\n\nIt gains 0.18, e.g. with `a. b` of\na.py 1.2. See [it](x.md).\n\n- One\n- Two. 3 more")
    ['It gains 0.18, e.g. with `a. b` of a.py 1.2.', 'See it.', 'One', 'Two.', '3 more']
    >>> sentences("| a. B |\n\n```sh\nls. Rm.\n```\n<!-- No. Yes. --> As Doe et al. (2017) say, Fig. 2. **So.** Did I?")
    ['As Doe et al. (2017) say, Fig. 2.', 'So.', 'Did I?']
    """
    return [sentence for _, sentence in _numbered_sentences(text)]


def n_words(sentence: str) -> int:
    """Return the number of words with a letter or a digit in them; code within a line is one word.

    >>> n_words("Run `make demo CONFIG=x` – it takes 0.5 minutes.")
    6
    """
    return sum(any(map(str.isalnum, word)) for word in _CODE.sub("code", sentence).split())


def _numbered_sentences(text: str) -> Iterator[tuple[int, str]]:
    for line, block in _blocks(text):
        spans: list[str] = []

        def hidden(match: re.Match[str], spans: list[str] = spans) -> str:
            spans.append(match[0])
            return f"\0{len(spans) - 1}\0"

        for sentence in _split(_without_markup(_CODE.sub(hidden, block))):
            parts = sentence.split("\0")
            yield line, "".join(spans[int(part)] if i % 2 else part for i, part in enumerate(parts))


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line where it begins, text in one line) of each paragraph and each list item."""
    start, words = 0, list[str]()
    after_item = False
    for number, raw in enumerate([*_without_code_blocks(text), ""], start=1):
        line = re.sub(r"^\s{0,3}>\s?", "", raw)
        if words and re.fullmatch(r"\s*(=+|-{2,})\s*", line):  # what stands above was a heading
            words = []
        indented_code = line.startswith("    ") and not words and not after_item
        skipped = indented_code or _SKIPPED.match(line) is not None
        item = None if skipped else _ITEM.match(line)
        if (skipped or item) and words:
            yield start, " ".join(words)
            words = []
        if line.strip() and not line.startswith("  "):
            after_item = item is not None or line.startswith(("!!!", "???"))
        if not skipped:
            start = start if words else number
            words.append(line[item.end() :].strip() if item else line.strip())


def _without_code_blocks(text: str) -> Iterator[str]:
    """Yield the lines of a page; those of fences, comments, front matter and generated parts are empty."""
    left_out = rf"{GENERATED.pattern}|\A---\n.*?\n---\n|<!--.*?-->"
    text = re.sub(left_out, lambda match: "\n" * match[0].count("\n"), text, flags=re.DOTALL)
    fence, generated = "", False
    for line in text.splitlines():
        mark = _FENCE.match(line)
        generated = line.startswith(":::") or (generated and line.startswith("    "))
        yield "" if fence or mark or generated else line
        if mark and fence:
            fence = "" if mark[1].startswith(fence) else fence
        elif mark:
            fence = mark[1]


def _without_markup(text: str) -> str:
    text = re.sub(r"<(https?://[^>]+)>", r"\1", text)
    text = re.sub(r"</?[a-zA-Z][^>]*>|\[\^[^\]]+\]|\{[:#.][^}]*\}", "", text)
    text = re.sub(r"!\[[^\]]*\](?:\((?:[^()]|\([^()]*\))*\)|\[[^\]]*\])", "", text)
    text = re.sub(r"\[([^\]]*)\](?:\((?:[^()]|\([^()]*\))*\)|\[[^\]]*\])", r"\1", text)
    return re.sub(r"\*+(\S(?:.*?\S)?)\*+", r"\1", text)


def _split(text: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(text):
        word = re.split(r"[\s(\[\"“«]", text[start : end.start()])[-1]
        following = text[end.end() :].lstrip(" \"'“‘«([")[:1]
        goes_on = word.lower() in _ABBREVIATIONS | _RUSSIAN_ABBREVIATIONS or (len(word) == 1 and word.isupper())
        goes_on |= word.lower() in _NUMBERED and following.isdigit()
        if following.islower() or (end[0] == "." and goes_on):
            continue
        yield text[start : end.end()].strip()
        start = end.end()
    if any(map(str.isalnum, text[start:])):
        yield text[start:].strip()


def median_words(text: str) -> float:
    """Return the median number of words of a page's sentences, 0 for a page without any."""
    return median([n_words(sentence) for sentence in sentences(text)] or [0])


def long_sentences(text: str) -> list[tuple[int, int, str]]:
    """Return (line where its paragraph begins, words, sentence) of each sentence that is too long."""
    counted = ((line, n_words(sentence), sentence) for line, sentence in _numbered_sentences(text))
    return [entry for entry in counted if entry[1] > LONG_SENTENCE]


def show_prose(pages: list[Path]) -> bool:
    """Print each page's median and long sentences; return whether every page is within the limits."""
    fine = True
    for page in pages:
        text = page.read_text(encoding="utf-8")
        long, middle = long_sentences(text), median_words(text)
        fine &= not long and middle < MEDIAN_SENTENCE
        print(f"{page}: {len(sentences(text))} sentences, median {middle:g} words, {len(long)} over {LONG_SENTENCE}")
        for line, words, sentence in long:
            print(f"  line {line}, {words} words: {sentence}")
    return fine

import gzip
import os
import sqlite3
import zipfile
from datetime import date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Any

import openpyxl
import polars as pl
import pytest

from recsys.config import DataConfig
from recsys.data.engine import open_engine
from recsys.data.prepare import prepare
from recsys.data.purchases import open_purchases
from recsys.data.reading.column_map import load_column_map
from recsys.data.reading.databases import without_password
from recsys.data.reading.files import open_table
from recsys.data.reading.layout import LINE, FileForm, OpenTable
from recsys.data.reading.text import read_text
from recsys.data.reading.times import TimeForms, find_forms, time_of
from recsys.data.reading.values import NULL_WORDS, decimal_of, is_missing, number_of
from recsys.data.sources import read_source
from recsys.errors import ConfigError, DataError, RecsysError, UsageError

UIT = {"user_id": "u", "item_id": "i", "time": "t"}
PLAIN = "u,i,t\n1,a,2024-01-02\n2,b,2024-01-03\n"
BOTH = [("1", "a"), ("2", "b")]

Rows = list[tuple[str | None, ...]]


def read(folder: Path, text: str | bytes, **form: Any) -> OpenTable:
    """Read a text file as the reader of files does."""
    path, scratch = folder / "shop.csv", folder / "scratch"
    scratch.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_text(path, FileForm(**form), scratch, path)


def rows(table: OpenTable) -> Rows:
    """Return the rows of a table without their lines; there are as many as were counted."""
    found = table.frame.drop(LINE).collect().rows()
    assert len(found) == table.n_records
    return found


def lines(table: OpenTable) -> list[int]:
    return table.frame.collect()[LINE].to_list()


def config_of(raw: Path, engine: str = "polars", name: str | None = None, **columns: Any) -> DataConfig:
    merged: Any = UIT | columns
    return DataConfig(source="table", raw=raw, columns=merged, engine=engine, name=name)


def events(raw: Path, **columns: Any) -> pl.DataFrame:
    """Return the purchases in ``raw`` as the source gives them, in the order of their lines."""
    with open_engine("polars") as engine:
        frame: pl.LazyFrame = read_source(config_of(raw, **columns), engine).events.to_native()
        found = frame.collect()
    return found.sort(LINE) if LINE in found.columns else found


def bought(raw: Path, **columns: Any) -> Rows:
    """Return who bought what, sorted."""
    return sorted(events(raw, **columns).select("user_id", "item_id").rows())


def refused(raw: Path, expected: type[RecsysError] = DataError, **columns: Any) -> str:
    """Return the message with which reading fails; always one line."""
    with open_engine("polars") as engine, pytest.raises(expected) as caught:
        read_source(config_of(raw, **columns), engine)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def report_of(raw: Path, engine: str = "polars", **columns: Any) -> dict[str, Any]:
    report: dict[str, Any] = prepare(config_of(raw, engine, **columns))["report"]
    return report


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Quotation marks


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ('17" monitor', '17" monitor'),
        ('SET 3 "ROSE" POSTERS', 'SET 3 "ROSE" POSTERS'),
        ('"Top, ""white"""', 'Top, "white"'),
        ('"two\nlines"', "two\nlines"),
        ('"two\r\nlines, and a comma"', "two\r\nlines, and a comma"),
        ('""', None),
        ('"Big" bag', '"Big" bag'),
        ('"Bag of 17\\" size, red"', 'Bag of 17" size, red'),
        ('"lone', '"lone'),
        ('half"', 'half"'),
    ],
)
def test_quotation_marks_are_what_they_stand_for(tmp_path: Path, field: str, expected: str | None) -> None:
    table = read(tmp_path, f'sku,name,n\n1,Mug,2\n2,{field},3\n"3","Cup, blue",4\n')
    assert rows(table) == [("1", "Mug", "2"), ("2", expected, "3"), ("3", "Cup, blue", "4")]


def test_a_backslash_may_stand_before_a_quotation_mark(tmp_path: Path) -> None:
    table = read(tmp_path, '"a","b"\n"1","17\\" disc, big"\n"2","a \\"b\\", c"\n')
    assert rows(table) == [("1", '17" disc, big'), ("2", 'a "b", c')]


def test_a_lone_quotation_mark_swallows_no_line(tmp_path: Path) -> None:
    table = read(tmp_path, 'sku,name,n\n1,"17 inches,2\n2,Mug,3\n3,Cup,4\n4,12",5\n5,Pot,6\n')
    assert rows(table) == [
        ("1", '"17 inches', "2"),
        ("2", "Mug", "3"),
        ("3", "Cup", "4"),
        ("4", '12"', "5"),
        ("5", "Pot", "6"),
    ]
    assert "quotation marks inside fields are read as characters" in table.notes


def test_a_quotation_mark_that_is_never_closed_swallows_no_line(tmp_path: Path) -> None:
    table = read(tmp_path, 'sku,name,n\n1,Mug,2\n2,"Pot,3\n3,Cup,4\n')
    assert rows(table) == [("1", "Mug", "2"), ("2", '"Pot', "3"), ("3", "Cup", "4")]


@pytest.mark.parametrize("review", ["nice\nred, green, blue\nthe end", "nice\nred, green, blue"])
def test_a_text_of_several_lines_may_hold_as_many_separators_as_a_record(tmp_path: Path, review: str) -> None:
    table = read(tmp_path, f'sku,review,n\n1,"{review}",5\n2,"good, cheap",3\n')
    assert rows(table) == [("1", review, "5"), ("2", "good, cheap", "3")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('sku,name\n1,"a\nb"\n2,c\n\n3,d\n', [2, 4, 6]),
        ('"sku","name"\n"1","a"\n"2","b"\n', [2, 3]),
        ('"sku","name"\n"1","a"\n\n"2","b"\n\n', [2, 4]),
        ('"sku","name"\r\n"1","a"\r\n,\r\n"2","b"\r\n', [2, 4]),
        ("sku,name\n1,a\n\n2,b\n", [2, 4]),
        ('"sku\ncode",name\n1,a\n2,b\n', [3, 4]),
    ],
)
def test_lines_are_those_of_an_editor(tmp_path: Path, text: str, expected: list[int]) -> None:
    assert lines(read(tmp_path, text)) == expected


# Lines


@pytest.mark.parametrize("quoted", ["", '"x"'])
def test_a_line_with_too_many_fields_is_named(tmp_path: Path, quoted: str) -> None:
    with pytest.raises(DataError, match=r"shop\.csv: line 3 has 4 fields, expected 3: '2,b,4,5'"):
        read(tmp_path, f"sku,name,n\n1,{quoted},3\n2,b,4,5\n3,c,4\n")


def test_a_header_of_more_names_than_the_lines_have_fields_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"shop\.csv: line 1 has 4 fields, most lines have 3: 'u,i,t,note'"):
        read(tmp_path, "u,i,t,note\n1,a,2024-01-02\n2,b,2024-01-03\n")


def test_a_line_with_too_few_fields_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"shop\.csv: line 4 has 2 fields, expected 3: '3,c'"):
        read(tmp_path, "sku,name,n\n1,a,3\n2,b,4\n3,c\n4,d,5\n")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blank_lines_and_lines_of_separators_are_no_rows(tmp_path: Path, end: str) -> None:
    table = read(tmp_path, end.join(["a,b,c", "1,2,3", "", ",,", "4,5,6", ",,", "", ""]))
    assert rows(table) == [("1", "2", "3"), ("4", "5", "6")]
    assert lines(table) == [2, 5]


@pytest.mark.parametrize("header", ["a,b,", "a,b"])
@pytest.mark.parametrize("quoted", ["", '"x"'])
def test_a_separator_at_the_end_of_each_line_makes_no_column(tmp_path: Path, header: str, quoted: str) -> None:
    table = read(tmp_path, f"{header}\n1,2,\n3,4,\n5,{quoted},\n")
    assert table.frame.collect_schema().names() == [LINE, "a", "b"]
    assert rows(table) == [("1", "2"), ("3", "4"), ("5", quoted.strip('"') or None)]


@pytest.mark.parametrize("footer", ["Total", "(541909 rows)\n", "-- end --\n\n", "made by till 3\nTotal\n"])
@pytest.mark.parametrize("quoted", ["x", '"x"', '"x\ny"'])
def test_lines_of_one_field_at_the_end_are_left_out_and_said(tmp_path: Path, footer: str, quoted: str) -> None:
    table = read(tmp_path, f"a,b\n1,{quoted}\n2,y\n{footer}")
    assert rows(table) == [("1", quoted.strip('"')), ("2", "y")]
    assert f"below the last row, which have one field: {footer.splitlines()[0]!r}" in " ".join(table.notes)


def test_what_may_be_left_of_a_record_is_no_footer(tmp_path: Path) -> None:
    for last in ("17850", "2024-01-02", "Total"):
        with pytest.raises(DataError, match=r"line 3 has 1 fields, expected 2: .*; complete it, or delete it"):
            read(tmp_path, f"a,b\n1,x\n{last}\n2,y\n" if last == "Total" else f"a,b\n1,x\n{last}\n")


def test_spaces_before_quotation_marks_are_passed_over(tmp_path: Path) -> None:
    table = read(tmp_path, '"u", "i"\n"1", "Mug, red"\n"2", "17"" disc"\n')
    assert table.columns == ["u", "i"]
    assert rows(table) == [("1", "Mug, red"), ("2", '17" disc')]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_of_every_system_are_read(tmp_path: Path, end: str, last: bool) -> None:
    text = end.join(["a,b", "1,x", "2,"]) + end * last
    assert rows(read(tmp_path, text)) == [("1", "x"), ("2", None)]


# Header and separator


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_each_separator_is_found_and_said(tmp_path: Path, separator: str) -> None:
    text = "sku,name,price\n1,Mug,250\n2,Cup,399\n".replace(",", separator)
    table = read(tmp_path, text)
    assert rows(table) == [("1", "Mug", "250"), ("2", "Cup", "399")]
    names = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
    assert f"separator {names[separator]}" in table.notes


def test_decimal_commas_do_not_make_the_comma_a_separator(tmp_path: Path) -> None:
    assert rows(read(tmp_path, "sku;price;sum\n1;2,50;5,00\n2;3,99;7,98\n"))[0] == ("1", "2,50", "5,00")


def test_a_line_for_excel_says_the_separator(tmp_path: Path) -> None:
    table = read(tmp_path, "sep=;\nsku;name\n1;a,b\n2;c,d\n")
    assert rows(table) == [("1", "a,b"), ("2", "c,d")]
    assert lines(table) == [3, 4]


def test_title_lines_above_the_header_are_passed_over_and_said(tmp_path: Path) -> None:
    table = read(
        tmp_path, "Sales of March\nmade on 2024-04-01,,,\n\nday,sku,name,n\n2024-03-01,1,Mug,2\n2024-03-02,2,Cup,1\n"
    )
    assert table.frame.collect_schema().names() == [LINE, "day", "sku", "name", "n"]
    assert len(rows(table)) == 2
    assert "header in line 4" in table.notes
    assert lines(table) == [5, 6]


def test_no_separator_at_all_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no separator is found in 'sku~n'.*separator: '…'.*widths"):
        read(tmp_path, "sku~n\n1~2\n")
    assert rows(read(tmp_path, "sku~n\n1~2\n", separator="~")) == [("1", "2")]


def test_without_a_header_columns_are_numbers(shop: Path) -> None:
    (shop / "log.csv").write_text("1,a,2024-01-02\n2,b,2024-01-03\n")
    numbers: dict[str, Any] = {"user_id": 1, "item_id": 2, "time": 3}
    assert bought(shop / "log.csv", **numbers) == BOTH
    assert bought(shop / "log.csv", header=False, **numbers) == BOTH
    assert "the file has no header: name columns by number, or say header: true" in refused(shop / "log.csv")


def test_a_first_line_of_words_alone_is_what_the_map_says_it_is(shop: Path) -> None:
    (shop / "log.csv").write_text("ann;mug;2024-01-02\nbob;cup;2024-01-03\n")
    assert bought(shop / "log.csv", user_id=1, item_id=2, time=3) == [("ann", "mug"), ("bob", "cup")]
    words = shop / "words.csv"
    words.write_text("ann;mug\nbob;cup\ncid;pot\n")
    with open_engine("polars") as engine:
        without = open_table(words, FileForm(header=False), engine.scratch)
        assert without.columns == ["1", "2"]
        assert open_table(words, FileForm(header=True), engine.scratch).columns == ["ann", "mug"]


def test_a_header_that_is_taken_for_a_row_is_one_where_the_map_says_so(shop: Path) -> None:
    (shop / "log.csv").write_text("u,2024,t\n1,7,2024-01-02\n2,8,2024-01-03\n")
    assert bought(shop / "log.csv", item_id="2024", header=True) == [("1", "7"), ("2", "8")]


def test_a_column_may_be_called_as_the_reader_calls_its_own(shop: Path) -> None:
    (shop / "shop.csv").write_text("u,i,t,_line,_file\n1,a,2024-01-02,x,z\n2,b,2024-01-03,y,z\n")
    assert bought(shop / "shop.csv") == BOTH


def test_two_columns_of_one_name_are_asked_for(shop: Path) -> None:
    (shop / "shop.csv").write_text("u,i,t,i\n1,a,2024-01-02,x\n2,b,2024-01-03,y\n")
    assert "two columns are called i; give each a name of its own" in refused(shop / "shop.csv")
    assert bought(shop / "shop.csv", item_id="i (column 4)") == [("1", "x"), ("2", "y")]


@pytest.mark.parametrize("header", ["u,i [sku],t", '"u","i [sku]","t"', " u , i  [sku] ,t"])
def test_a_name_may_hold_brackets_and_spaces(shop: Path, header: str) -> None:
    (shop / "shop.csv").write_text(PLAIN.replace("u,i,t", header))
    assert bought(shop / "shop.csv", item_id="i [sku]") == BOTH


def test_columns_of_fixed_width(shop: Path) -> None:
    (shop / "fixed.dat").write_text(
        "cust  item      day       \n1     Mug, red  2024-01-02\n2     Cup       2024-01-03\n"
    )
    assert bought(shop / "fixed.dat", user_id="cust", item_id="item", time="day", widths=[6, 10, 10]) == [
        ("1", "Mug, red"),
        ("2", "Cup"),
    ]


# Encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_encodings_are_found(tmp_path: Path, encoding: str) -> None:
    text = "sku;name\n1;Müsli groß\n2;Crème brûlée 5 €\n3;Señor Piñata\n"
    table = read(tmp_path, text.encode(encoding))
    assert table.frame.collect_schema().names() == [LINE, "sku", "name"]
    assert [name for _, name in rows(table)] == ["Müsli groß", "Crème brûlée 5 €", "Señor Piñata"]
    guessed = any(note.startswith("encoding cp1252 (guessed") for note in table.notes)
    assert guessed == (encoding == "cp1252")


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("cp1250", ["Żółta łódź podwodna", "Świeca zapachowa"]),
        ("cp1251", ["Чашка синяя большая", "Ложка столовая"]),
        ("cp932", ["コーヒーカップ", "お茶碗"]),
    ],
)
def test_other_code_pages_are_guessed_by_their_letters(tmp_path: Path, encoding: str, names: list[str]) -> None:
    text = "sku;name\n" + "".join(f"{place};{name}\n" for place, name in enumerate(names))
    assert [name for _, name in rows(read(tmp_path, text.encode(encoding)))] == names


@pytest.mark.parametrize(("name", "encoding"), [("Şişe çığ", "cp1254"), ("brânză de roţi ţară", "cp1250")])
def test_letters_that_two_code_pages_share_are_told_apart(tmp_path: Path, name: str, encoding: str) -> None:
    table = read(tmp_path, f"a,b\n1,{name}\n2,{name}\n".encode(encoding))
    assert rows(table) == [("1", name), ("2", name)]


def test_a_damaged_byte_does_not_make_a_file_one_of_two_bytes_a_letter(tmp_path: Path) -> None:
    assert rows(read(tmp_path, b"sku,name\n1,Mu\0g\n2,Cup\n")) == [("1", "Mu\0g"), ("2", "Cup")]


def test_a_line_of_another_encoding_is_named(tmp_path: Path) -> None:
    text = "sku,name\n1,Müsli\n2,Café\n".encode() + "3,Käse\n".encode("cp1252")
    with pytest.raises(DataError, match=r"shop\.csv is UTF-8, but line 4 is not; mend it"):
        read(tmp_path, text)


def test_a_stated_encoding_is_taken_or_refused(tmp_path: Path) -> None:
    text = "sku;name\n1;Işık şamdan\n"
    assert rows(read(tmp_path, text.encode("cp1254"), encoding="cp1254")) == [("1", "Işık şamdan")]
    with pytest.raises(DataError, match=r"is not encoded as utf-8 .*say what it is with encoding: NAME"):
        read(tmp_path, text.encode("cp1254"), encoding="utf-8")
    with pytest.raises(DataError, match="encoding: utf-7000 is not known"):
        read(tmp_path, text, encoding="utf-7000")


# Files


@pytest.mark.parametrize("name", ["SHOP.CSV", "Shop.Txt", "shop.TSV", "shop.dat", "shop"])
def test_endings_of_any_case_are_read(shop: Path, name: str) -> None:
    (shop / name).write_text(PLAIN.replace(",", "\t") if name.endswith("TSV") else PLAIN)
    assert bought(shop / name) == BOTH


@pytest.mark.parametrize("name", ["shop.csv.gz", "SHOP.CSV.GZ", "shop.gz"])
def test_gzip(shop: Path, name: str) -> None:
    (shop / name).write_bytes(gzip.compress(PLAIN.encode()))
    assert bought(shop / name) == BOTH


def test_a_zip_that_a_mac_made_is_one_table_and_a_zip_of_two_is_refused(shop: Path) -> None:
    with zipfile.ZipFile(shop / "mac.ZIP", "w") as archive:
        archive.writestr("sales/", "")
        archive.writestr("sales/Shop.CSV", PLAIN)
        archive.writestr("__MACOSX/sales/._Shop.CSV", b"\0\5\26\7")
        archive.writestr("sales/.DS_Store", b"\0")
    assert bought(shop / "mac.ZIP") == BOTH
    with zipfile.ZipFile(shop / "two.zip", "w") as archive:
        archive.writestr("a.csv", PLAIN)
        archive.writestr("b.csv", PLAIN)
    assert "holds a.csv, b.csv, expected one table; unpack it and name the files" in refused(shop / "two.zip")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"PAR1", "a Parquet file by its first bytes, not what its name says; call it a.parquet"),
        ("a.csv", b"PK\x03\x04", "a workbook or a zip file by its first bytes, not what its name says; call it a.xlsx"),
        (
            "a.csv",
            gzip.compress(PLAIN.encode()),
            "a gzip file by its first bytes, not what its name says; call it a.csv.gz",
        ),
        ("a.db", b"SQLite format 3\0", "a database by its first bytes, not what its name says; name it as sqlite:///"),
        ("a.xls", b"u\ti\tt\n", r"text ('u\ti\tt\n') by its first bytes, not what its name says; call it a.csv"),
        ("a.csv.gz", PLAIN.encode(), "by its first bytes, not what its name says; call it a.csv"),
        ("a.csv.gz.gz", gzip.compress(gzip.compress(PLAIN.encode())), "is packed twice, expected once; unpack it"),
    ],
    ids=["Parquet", "workbook", "gzip", "database", "text for a workbook", "text for a gzip file", "twice"],
)
def test_a_file_that_has_another_ones_name_is_said(shop: Path, name: str, content: bytes, expected: str) -> None:
    (shop / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_table(shop / name, FileForm(), shop)
    assert expected in str(caught.value)


def test_a_folder_is_no_file(shop: Path) -> None:
    with pytest.raises(DataError, match="is a folder; name files in it"):
        open_table(shop, FileForm(), shop)


@pytest.fixture
def months(shop: Path) -> Path:
    (shop / "2024-01.csv").write_text("u,i,t\n1,a,2024-01-02\n2,b,2024-01-31\n")
    (shop / "2024-02.csv").write_text("i;u;t\nc;1;2024-02-02\n")
    return shop


def test_several_files_are_one_table(months: Path) -> None:
    expected = [("1", "a"), ("1", "c"), ("2", "b")]
    assert bought(months, file=["2024-01.csv", "2024-02.csv"]) == expected
    assert bought(months, file="2024-*.csv") == expected
    assert report_of(months, file="2024-*.csv")["rows_read"] == 3
    assert "2025-*.csv is missing" in refused(months, file="2025-*.csv")
    (months / "2024-03.csv").write_text("u,i,t,price\n1,a,2024-03-02,5\n")
    assert "have different columns (price in one of them only)" in refused(months, file="2024-*.csv")


def test_files_with_a_column_of_two_types_are_one_table(shop: Path) -> None:
    day = [date(2024, 1, 2), date(2024, 1, 3)]
    pl.DataFrame({"u": [1.0, None], "i": ["a", "b"], "t": day}).write_parquet(shop / "1.parquet")
    pl.DataFrame({"u": [1, 2], "i": ["c", "d"], "t": day}).write_parquet(shop / "2.parquet")
    assert sorted(events(shop, file="*.parquet")["user_id"], key=str) == ["1", "1", "2", None]


def test_rows_that_stand_in_two_files_are_asked_for(months: Path) -> None:
    (months / "2024-02.csv").write_text("u,i,t\n2,b,2024-01-31\n1,c,2024-02-02\n")
    assert "1 rows of 2024-02.csv stand in an earlier file or sheet too; say overlap: once" in refused(
        months, file="2024-*.csv"
    ).replace(f"{months}/", "")
    assert bought(months, file="2024-*.csv", overlap="once") == [("1", "a"), ("1", "c"), ("2", "b")]
    assert bought(months, file="2024-*.csv", overlap="all") == [("1", "a"), ("1", "c"), ("2", "b"), ("2", "b")]
    assert report_of(months, file="2024-*.csv", overlap="once")["kept"] == 3


def test_a_file_whose_name_looks_like_a_pattern_is_itself(shop: Path) -> None:
    (shop / "sales [2024].csv").write_text(PLAIN)
    assert bought(shop / "sales [2024].csv") == BOTH
    assert bought(shop, file="sales [2024].csv") == BOTH


def write_book(path: Path, sheets: dict[str, list[list[Any]]]) -> None:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, cells in sheets.items():
        sheet = book.create_sheet(name)
        for row in cells:
            sheet.append(row)
    book.save(path)
    book.close()


HEAD = ["u", "i", "t", "price"]
JANUARY = [HEAD, [17850, "a", datetime(2024, 1, 2, 8, 26), 2.5], [12, "b", datetime(2024, 1, 3), 3]]
FEBRUARY = [["Sales of February"], [], HEAD, [17850, "c", datetime(2024, 2, 2, 9, 0), 1.25]]


def test_the_sheets_of_a_workbook_are_one_table(shop: Path) -> None:
    write_book(shop / "shop.XLSX", {"Jan": JANUARY, "Feb": FEBRUARY, "Empty": []})
    assert bought(shop / "shop.XLSX") == [("12", "b"), ("17850", "a"), ("17850", "c")]
    one = events(shop / "shop.XLSX", sheet="Jan", price="price")
    assert one["user_id"].to_list() == ["17850", "12"]
    assert one["time"].to_list() == [datetime(2024, 1, 2, 8, 26), datetime(2024, 1, 3)]
    assert one["price"].to_list() == [2.5, 3]
    assert events(shop / "shop.XLSX", sheet="Feb")[LINE].to_list() == [4]
    message = refused(shop / "shop.XLSX", sheet="Mar")
    assert "has no sheet Mar; found Jan, Feb, Empty" in message


def test_a_clock_of_a_workbook_may_stand_in_a_column_of_its_own(shop: Path) -> None:
    write_book(shop / "shop.xlsx", {"Sales": [["u", "i", "t", "c"], [1, "a", date(2024, 1, 2), time(10, 15)]]})
    assert events(shop / "shop.xlsx", time=["t", "c"])["time"].to_list() == [datetime(2024, 1, 2, 10, 15)]


def test_sheets_may_have_their_columns_in_another_order(shop: Path) -> None:
    write_book(
        shop / "a.xlsx",
        {"Jan": [["u", "i", "t"], ["1", "a", "2024-01-02"]], "Feb": [["i", "t", "u"], ["b", "2024-02-02", "2"]]},
    )
    assert bought(shop / "a.xlsx") == BOTH


def test_rows_that_stand_in_two_sheets_are_asked_for(shop: Path) -> None:
    write_book(shop / "shop.xlsx", {"Jan": JANUARY, "Jan (copy)": JANUARY})
    assert "2 rows of shop.xlsx stand in an earlier file or sheet too; say overlap" in refused(Path("shop.xlsx"))
    assert bought(shop / "shop.xlsx", overlap="once") == [("12", "b"), ("17850", "a")]
    assert len(bought(shop / "shop.xlsx", overlap="all")) == 4


def test_rows_that_stand_in_two_sheets_of_one_of_several_workbooks_are_asked_for(shop: Path) -> None:
    first, second = ([HEAD, [user, "a", datetime(2024, 1, user), 1]] for user in (1, 2))
    write_book(shop / "a.xlsx", {"Jan": first, "Feb": second})
    write_book(shop / "b.xlsx", {"Jan": [HEAD, [3, "c", datetime(2024, 1, 3), 1]], "Feb": first, "Mar": first})
    assert "2 rows of b.xlsx stand in an earlier file or sheet too" in refused(shop, file="*.xlsx").replace(
        f"{shop}/", ""
    )
    assert bought(shop, file="*.xlsx", overlap="once") == [("1", "a"), ("2", "a"), ("3", "c")]
    assert report_of(shop, file="*.xlsx", overlap="once")["kept"] == 3


def test_sheets_of_different_columns_are_asked_for(shop: Path) -> None:
    write_book(shop / "shop.xlsx", {"Sales": JANUARY, "Items": [["i", "name"], ["a", "Mug"]]})
    assert "sheets Sales and Items have different columns; say sheet: NAME" in refused(shop / "shop.xlsx")
    assert bought(shop / "shop.xlsx", sheet="Sales") == [("12", "b"), ("17850", "a")]


TYPED = pl.DataFrame(
    {
        "u": [17850.0, None, 12.0],
        "i": [1, 2, 3],
        "t": [datetime(2024, 1, 2, 8), datetime(2024, 1, 3), datetime(2024, 1, 4)],
        "test": [True, False, None],
    }
)


@pytest.mark.parametrize("name", ["a.parquet", "a.PQ", "a.arrow", "a.feather", "a.jsonl", "a.json"])
def test_files_with_types_keep_them(shop: Path, name: str) -> None:
    write = {".parquet": "parquet", ".pq": "parquet", ".arrow": "ipc", ".feather": "ipc", ".jsonl": "ndjson"}
    getattr(TYPED, f"write_{write.get(Path(name).suffix.lower(), 'json')}")(shop / name)
    found = events(shop / name, drop=[{"name": "test", "column": "test", "equals": True}])
    assert found["user_id"].to_list() == ["17850", None, "12"]
    assert found["item_id"].to_list() == ["1", "2", "3"]
    assert found["time"].to_list() == TYPED["t"].to_list()
    assert found["_drop_0"].to_list() == [True, False, False]


# Databases


@pytest.fixture
def database(shop: Path) -> Path:
    connection = sqlite3.connect(shop / "shop.db")
    connection.execute("CREATE TABLE sales (u INTEGER, i TEXT, t TEXT, price REAL)")
    connection.execute("CREATE TABLE items (i TEXT, name TEXT)")
    sold = [(1, "a", "2024-01-02 08:26:00", 2.5), (2, "b", "2024-01-03 09:00:00", 3.0), (None, "b", "2024-01-04", 1)]
    connection.executemany("INSERT INTO sales VALUES (?, ?, ?, ?)", sold)
    connection.commit()
    connection.close()
    return shop


def test_a_table_or_a_query_of_a_database_is_read_and_nothing_is_written(database: Path) -> None:
    place, before = f"sqlite:///{database / 'shop.db'}", (database / "shop.db").read_bytes()
    with_price = {"database": place, "price": "price"}
    assert report_of(database, **with_price, table="sales")["dropped"]["missing_user_id"] == 1
    asked = events(database, **with_price, query="SELECT u, i, t, price FROM sales WHERE price > 2 ORDER BY price")
    assert asked.select("user_id", "item_id", "price").rows() == [("1", "a", 2.5), ("2", "b", 3.0)]
    assert "cannot be read" in refused(database, database=place, query="DELETE FROM sales")
    assert "cannot be read" in refused(database, database=place, query="SELECT nothing FROM sales")
    assert (database / "shop.db").read_bytes() == before
    assert [path.name for path in database.glob("shop.db*")] == ["shop.db"]


def test_what_is_missing_of_a_database_is_named(database: Path) -> None:
    place = f"sqlite:///{database / 'shop.db'}"
    assert "has no table sale; found " in refused(database, database=place, table="sale")
    assert "names no table; found " in refused(database, database=place)
    twice = refused(database, database=place, query="SELECT a.*, b.* FROM sales a, sales b")
    assert "gives two columns called i; call one of them otherwise" in twice
    nowhere = f"sqlite:///{database / 'nowhere.db'}"
    assert "nowhere.db is missing" in refused(database, database=nowhere, table="sales")
    assert not (database / "nowhere.db").exists()
    assert "found both file and database" in refused(database, ConfigError, database=place, file="a.csv")
    assert "say database: ADDRESS too" in refused(database, ConfigError, table="sales")


def test_a_driver_that_is_not_installed_is_named(shop: Path) -> None:
    columns = {"database": "mysql+mysqlconnector://u:secret@host/shop", "table": "sales"}
    message = refused(shop, expected=UsageError, **columns)
    assert "mysql+mysqlconnector://…@host/shop needs the driver mysql; pip install" in message


def test_a_typed_password_becomes_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "")
    assert without_password("mysql://u:a%40b@host/shop?x=1") == "mysql://u:${SHOP_PASSWORD}@host/shop?x=1"
    assert os.environ["SHOP_PASSWORD"] == "a@b"  # noqa: S105 - of no server
    for other in ("mysql://u:${WORD}@host/shop", "mysql://u@host/shop", "sqlite:///a:b.db", "mysql://host:33/s"):
        assert without_password(other) == other


def test_the_address_of_a_database_may_name_variables(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"sqlite:///{database}/${{SHOP_DB}}"
    assert "the environment has no variable 'SHOP_DB'" in refused(database, UsageError, database=place, table="sales")
    monkeypatch.setenv("SHOP_DB", "shop.db")
    assert len(events(database, database=place, table="sales")) == 3


# Joins


@pytest.fixture
def orders(shop: Path) -> Path:
    (shop / "lines.csv").write_text("order,i\n" + "".join(f"{n % 50},{n % 7}\n" for n in range(100)))
    (shop / "orders.csv").write_text(
        "order;u;t\n" + "".join(f"{n};c{n % 5};2024-01-{n % 28 + 1:02d}\n" for n in range(50))
    )
    return shop


JOIN = {"file": "lines.csv", "join": {"file": "orders.csv", "on": "order"}}


def test_columns_of_another_file_are_joined(orders: Path) -> None:
    found = events(orders, **JOIN)
    assert len(found) == 100
    assert found["user_id"].to_list() == [f"c{n % 50 % 5}" for n in range(100)]
    assert report_of(orders, **JOIN)["kept"] == 100


def test_the_key_on_is_no_truth_value_of_yaml(orders: Path) -> None:
    text = "{user_id: u, item_id: i, time: t, file: lines.csv, join: {file: orders.csv, on: order}}"
    (orders / "map.yaml").write_text(text)
    assert load_column_map(orders / "map.yaml").join[0].on == ("order",)


def test_a_column_in_a_file_beside_it_says_how_to_join_it(orders: Path) -> None:
    assert "it stands in orders.csv beside it; write join: {file: orders.csv, on: order}" in refused(
        orders, file="lines.csv"
    )


def test_keys_that_are_numbers_in_one_file_and_text_in_the_other_are_joined(shop: Path) -> None:
    pl.DataFrame({"o": [1.0, 2.0], "i": ["a", "b"]}).write_parquet(shop / "lines.parquet")
    (shop / "orders.csv").write_text("o,u,t\n1,1,2024-01-02\n2.0,2,2024-01-03\n")
    assert bought(shop, file="lines.parquet", join={"file": "orders.csv", "on": "o"}) == BOTH


def test_a_key_that_matches_nobody_is_refused(orders: Path) -> None:
    text = (orders / "orders.csv").read_text()
    (orders / "orders.csv").write_text(
        "\n".join(["order;u;t", *(f"N{line}" for line in text.split("\n")[1:-1])]) + "\n"
    )
    message = refused(orders, **JOIN)
    assert "100 of 100 rows of" in message
    assert "have no row in" in message
    assert "correct 'join: on'" in message
    assert "no such column" in refused(orders, **(JOIN | {"join": {"file": "orders.csv", "on": "receipt"}}))


def test_a_key_with_several_rows_is_refused_and_one_that_repeats_its_row_is_not(orders: Path) -> None:
    text = (orders / "orders.csv").read_text()
    (orders / "orders.csv").write_text(text + "0;c0;2024-01-01\n")
    assert len(events(orders, **JOIN)) == 100
    (orders / "orders.csv").write_text(text + "0;c1;2024-01-01\n")
    assert "has several rows for order 0; expected one; is it the right key?" in refused(orders, **JOIN)


# Times


def times_of(texts: list[str | None], timezone: str | None = None) -> list[datetime | None]:
    """Return texts as times, in the forms that are found."""
    found = find_forms(pl.Series(texts, dtype=pl.String))
    assert not found.question
    if not found.formats:
        return [None] * len(texts)
    return pl.DataFrame({"t": texts}).select(time_of(pl.col("t"), found.formats, timezone)).to_series().to_list()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-01", datetime(2024, 3, 1)),
        ("2024-03-01 10:15", datetime(2024, 3, 1, 10, 15)),
        ("2024-03-01T10:15:30", datetime(2024, 3, 1, 10, 15, 30)),
        ("2024-03-01 10:15:30.250", datetime(2024, 3, 1, 10, 15, 30, 250_000)),
        ("2024/3/1 9:05", datetime(2024, 3, 1, 9, 5)),
        ("2024.03.01", datetime(2024, 3, 1)),
        ("20240301", datetime(2024, 3, 1)),
        ("202403011015", datetime(2024, 3, 1, 10, 15)),
        ("20240301101530", datetime(2024, 3, 1, 10, 15, 30)),
        ("2024-03-01 10:15:30,250", datetime(2024, 3, 1, 10, 15, 30, 250_000)),
        ("25.03.2024 10:15", datetime(2024, 3, 25, 10, 15)),
        ("25/3/2024", datetime(2024, 3, 25)),
        ("3/25/2024 9:05", datetime(2024, 3, 25, 9, 5)),
        ("03-25-2024", datetime(2024, 3, 25)),
        ("03/25/2024 01:15 PM", datetime(2024, 3, 25, 13, 15)),
        ("03/25/2024 12:15:09am", datetime(2024, 3, 25, 0, 15, 9)),
        ("03/25/2024 1:15 p.m.", datetime(2024, 3, 25, 13, 15)),
        ("25/03/2024 1:15 p. m.", datetime(2024, 3, 25, 13, 15)),
        ("3/25/2024, 1:15:09\u202fPM", datetime(2024, 3, 25, 13, 15, 9)),
        ("2024年3月5日", datetime(2024, 3, 5)),
        ("5 Mar 2024", datetime(2024, 3, 5)),
        ("05-Mar-24", datetime(2024, 3, 5)),
        ("5 March 2024 10:15", datetime(2024, 3, 5, 10, 15)),
        ("Mar 5, 2024", datetime(2024, 3, 5)),
        ("March 25, 2024 1:15 PM", datetime(2024, 3, 25, 13, 15)),
        ("Tue 5 Mar 2024", datetime(2024, 3, 5)),
        ("Tuesday, 5 March 2024", datetime(2024, 3, 5)),
        ("31.12.98", datetime(1998, 12, 31)),
        ("31.12.23", datetime(2023, 12, 31)),
        ("2024-03-01T10:15:30Z", datetime(2024, 3, 1, 10, 15, 30)),
        ("2024-03-01 10:15:30 UTC", datetime(2024, 3, 1, 10, 15, 30)),
        ("2024-03-01 10:15:30+02:00", datetime(2024, 3, 1, 10, 15, 30)),
        ("1709288130", datetime(2024, 3, 1, 10, 15, 30)),
        ("1709288130000", datetime(2024, 3, 1, 10, 15, 30)),
        ("1709288130000000", datetime(2024, 3, 1, 10, 15, 30)),
        ("1709288130.0", datetime(2024, 3, 1, 10, 15, 30)),
        ("1709288130.123", datetime(2024, 3, 1, 10, 15, 30)),
        (" 2024-03-01 ", datetime(2024, 3, 1)),
        ("Mon Dec  5 10:00:00 2011", datetime(2011, 12, 5, 10)),
        ("Mon Dec 12 10:00:00 2011", datetime(2011, 12, 12, 10)),
        ("40518.35", datetime(2010, 12, 6, 8, 24)),
        ("40518,35", datetime(2010, 12, 6, 8, 24)),
        ("40518", datetime(2010, 12, 6)),
        ("5. März 2024", datetime(2024, 3, 5)),
        ("05-Dez-24 10:15", datetime(2024, 12, 5, 10, 15)),
        ("5 févr. 2024", datetime(2024, 2, 5)),
        ("5 AOÛT 2024", datetime(2024, 8, 5)),
        ("5 de marzo de 2024", datetime(2024, 3, 5)),
        ("5 settembre 2024 1:15 PM", datetime(2024, 9, 5, 13, 15)),
        ("5 mrt. 2024", datetime(2024, 3, 5)),
        ("5 мая 2024", datetime(2024, 5, 5)),
        ("5-июн-2024", datetime(2024, 6, 5)),
        ("Sept. 5, 2024", datetime(2024, 9, 5)),
        ("soon", None),
        ("17850", None),
        ("2024-02-31", None),
        ("0024-03-01", None),
        (None, None),
    ],
)
def test_times_are_read_as_they_are_written(text: str | None, expected: datetime | None) -> None:
    assert times_of([text]) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-07-01T10:15:30Z", datetime(2024, 7, 1, 12, 15, 30)),
        ("2024-07-01 10:15:30 +0000", datetime(2024, 7, 1, 12, 15, 30)),
        ("2024-07-01 10:15:30-05:00", datetime(2024, 7, 1, 17, 15, 30)),
        ("2024-01-01 23:30:00Z", datetime(2024, 1, 2, 0, 30)),
        ("2024-01-01 23:30:00+00", datetime(2024, 1, 2, 0, 30)),
        ("2024-01-01 23:30:00-03", datetime(2024, 1, 2, 3, 30)),
        ("1719828930", datetime(2024, 7, 1, 12, 15, 30)),
        ("2024-07-01 10:15:30", datetime(2024, 7, 1, 10, 15, 30)),
    ],
)
def test_times_with_a_zone_and_since_1970_are_brought_to_that_of_the_shop(text: str, expected: datetime) -> None:
    assert times_of([text], "Europe/Berlin") == [expected]


@pytest.mark.parametrize(
    ("texts", "form", "why"),
    [
        (["1/2/2024", "13/2/2024"], "%d/%m/%Y", "1 of 2 fit nothing else"),
        (["1/2/2024", "2/13/2024"], "%m/%d/%Y", "1 of 2 fit nothing else"),
        (["1/2/2024", "2/2/2024", "3/2/2024", "5/2/2024", "1/3/2024"], "%d/%m/%Y", "the rows are in its order"),
        (["2/1/2024", "2/2/2024", "2/3/2024", "2/5/2024", "3/1/2024"], "%m/%d/%Y", "the rows are in its order"),
        (["01/02/99", "13/02/01"], "%d/%m/%y", "1 of 2 fit nothing else"),
        (["15/01/24", "20/02/24", "07/03/24"], "%d/%m/%y", "2 of 3 fit nothing else"),
        (["24/01/15", "24/02/20", "24/03/07"], "%y/%m/%d", "3 of 3 fit nothing else"),
        (["3/4/20 10:00", "03/25/2020", "5/6/20 11:00", "7/8/20 9:00"], "%m/%d/%y %H:%M", "order of the others"),
        (
            ["2020-03-25", "03.04.2020", "2020-04-25", "05.05.2020", "2020-05-20"],
            "%d.%m.%Y",
            "the rows are in its order",
        ),
    ],
)
def test_which_number_is_the_day_is_found_out(texts: list[str], form: str, why: str) -> None:
    found = find_forms(pl.Series(texts))
    assert (form in found.formats, found.question) == (True, "")
    assert why in found.evidence


def test_dates_in_which_excel_may_have_exchanged_day_and_month_are_asked_for_or_put_right() -> None:
    days = [date(2024, month, day) for month in range(1, 7) for day in (2, 9, 14, 27)]
    low = {day: f"{day:%Y-%d-%m} 00:00:00" for day in days if day.day <= 12}
    texts = [low.get(day, f"{day:%d/%m/%Y}") for day in days]
    assert times_of([*texts]) == [datetime(day.year, day.month, day.day) for day in days]
    asked = find_forms(pl.Series(texts[::-1][::5] + texts[::3] + texts[1::3]))
    assert 'write time_format: "%Y-%m-%d %H:%M:%S" or time_format: "%Y-%d-%m %H:%M:%S"' in asked.question


def test_years_of_two_digits_from_69_on_are_of_the_last_century() -> None:
    frame = pl.DataFrame({"t": [f"01/02/{year}" for year in (68, 69, 70, 99)]})
    assert frame.select(time_of(pl.col("t"), ["%d/%m/%y"]).dt.year())["t"].to_list() == [2068, 1969, 1970, 1999]


class InJune(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "InJune":
        return cls(2024, 6, 15, tzinfo=tz)


def test_a_day_to_come_decides_which_number_is_the_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.data.reading.times.datetime", InJune)
    found = find_forms(pl.Series(["01/12/2024", "01/11/2024", "03/12/2024"]))
    assert found == TimeForms(("%m/%d/%Y",), "%m/%d/%Y (else some would lie in the future)")


def test_a_closed_weekday_decides_which_number_is_the_day() -> None:
    days = pl.date_range(date(2023, 1, 1), date(2023, 12, 12), eager=True)
    open_days = days.filter((days.dt.weekday() != 7) & (days.dt.day() <= 12)).sample(fraction=1, shuffle=True, seed=0)
    found = find_forms(open_days.dt.strftime("%d/%m/%Y"))
    assert found == TimeForms(("%d/%m/%Y",), "%d/%m/%Y (one weekday is free of purchases)")


def test_what_leaves_the_day_open_is_asked_for(shop: Path) -> None:
    texts = ["3/4/2020", "1/2/2020", "2/3/2020"]
    expected = 'may be read in two ways; write time_format: "%d/%m/%Y" or time_format: "%m/%d/%Y"'
    assert expected in find_forms(pl.Series(texts)).question
    (shop / "shop.csv").write_text("u,i,t\n" + "".join(f"1,a,{text}\n" for text in texts))
    assert expected in refused(shop / "shop.csv")
    stated = events(shop / "shop.csv", time_format="%m/%d/%Y")["time"].to_list()
    assert stated == [datetime(2020, 3, 4), datetime(2020, 1, 2), datetime(2020, 2, 3)]


def test_a_date_that_nothing_fits_asks_nothing() -> None:
    assert times_of(["2024-01-02", "00/00/0000"]) == [datetime(2024, 1, 2), None]


def test_the_last_day_of_a_promotion_decides_how_the_first_is_written(shop: Path) -> None:
    (shop / "shop.csv").write_text(PLAIN)
    (shop / "plans.csv").write_text("i;first;last\na;3.1.2024;15.1.2024\nb;4.1.2024;6.1.2024\n")
    plans = {"file": "plans.csv", "start": "first", "end": "last"}
    with open_engine("polars") as engine:
        frame = read_source(config_of(shop / "shop.csv", promotions=plans), engine).promotions
        assert frame is not None
        planned = engine.collect(frame).sort_by("item_id")
    assert planned["start"].to_pylist() == [datetime(2024, 1, 3), datetime(2024, 1, 4)]
    (shop / "plans.csv").write_text("i;first;last\na;3.1.2024;5.1.2024\n")
    assert "may be read in two ways" in refused(shop / "shop.csv", promotions=plans)


def test_years_of_two_and_of_four_digits_may_stand_in_one_column() -> None:
    texts = ["3/4/20 10:00", "03/25/2020", "03/04/2020", "5/6/20 11:00"]
    expected = [datetime(2020, 3, 4, 10), datetime(2020, 3, 25), datetime(2020, 3, 4), datetime(2020, 5, 6, 11)]
    assert times_of([*texts]) == expected
    assert times_of([text.split()[0] for text in texts]) == [datetime(day.year, day.month, day.day) for day in expected]


def test_times_of_two_forms_in_one_column(shop: Path) -> None:
    (shop / "shop.csv").write_text("u,i,t\n1,a,2024-01-02\n1,b,25.1.2024 10:15\n1,c,2024-02-03\n")
    expected = [datetime(2024, 1, 2), datetime(2024, 1, 25, 10, 15), datetime(2024, 2, 3)]
    assert events(shop / "shop.csv")["time"].to_list() == expected
    assert events(shop / "shop.csv", time_format=["%Y-%m-%d", "%d.%m.%Y %H:%M"])["time"].to_list() == expected


def test_the_day_of_the_year_may_be_stated(shop: Path) -> None:
    (shop / "shop.csv").write_text("u,i,t\n1,a,2024-060\n")
    assert events(shop / "shop.csv", time_format="%Y-%j")["time"].to_list() == [datetime(2024, 2, 29)]


def test_a_wrong_format_stops_the_command_and_says_the_right_one(shop: Path) -> None:
    (shop / "shop.csv").write_text("u,i,t\n1,a,25.1.2024\n1,b,26.1.2024\n")
    with pytest.raises(
        DataError, match=r"2 of 2 rows \(100%\) have bad_date, e\.g\. '25\.1\.2024' \(line 2\)"
    ) as caught:
        report_of(shop / "shop.csv", time_format="%d/%m/%Y")
    assert 'expected %d/%m/%Y; write time_format: "%d.%m.%Y"' in str(caught.value)


@pytest.mark.parametrize("day", ["2024-01-02", "2024-01-02 00:00:00", "2024-01-02T00:00"])
def test_the_clock_may_stand_in_a_column_of_its_own(shop: Path, day: str) -> None:
    (shop / "shop.csv").write_text(f"u,i,t,c\n1,a,{day},10:15\n1,b,{day},\n")
    found = events(shop / "shop.csv", time=["t", "c"])["time"].to_list()
    assert found[0] == datetime(2024, 1, 2, 10, 15)
    assert found[1] == datetime(2024, 1, 2)
    clocks = pl.DataFrame({"u": [1], "i": ["a"], "t": [date(2024, 1, 2)], "c": [time(10, 15)]})
    clocks.write_parquet(shop / "shop.parquet")
    assert events(shop / "shop.parquet", time=["t", "c"])["time"].to_list() == [datetime(2024, 1, 2, 10, 15)]


def test_typed_times_with_a_zone_are_the_clock_of_theirs_or_the_shops(shop: Path) -> None:
    utc = pl.Series([datetime(2024, 7, 1, 10)]).dt.replace_time_zone("UTC")
    pl.DataFrame({"u": [1], "i": ["a"], "t": utc}).write_parquet(shop / "shop.parquet")
    assert events(shop / "shop.parquet")["time"].to_list() == [datetime(2024, 7, 1, 10)]
    berlin = events(shop / "shop.parquet", timezone="Europe/Berlin")
    assert berlin["time"].to_list() == [datetime(2024, 7, 1, 12)]
    assert "expected the name of a time zone" in refused(shop / "shop.parquet", ConfigError, timezone="Berlin")


def test_dates_of_long_ago_and_to_come_are_dropped_and_counted(shop: Path) -> None:
    (shop / "shop.csv").write_text(PLAIN + "3,a,1900-01-01\n3,a,2042-05-05\n")
    report = report_of(shop / "shop.csv")
    assert (report["dropped"]["date_before_1980"], report["dropped"]["date_in_the_future"]) == (1, 1)
    assert report["kept"] == 2


# Numbers


@pytest.mark.parametrize(
    ("texts", "sign"),
    [
        (["2,50", "3"], ","),
        (["2.50", "3"], "."),
        (["1.234,50"], ","),
        (["1,234.50"], "."),
        (["1,234,567"], "."),
        (["1.234.567"], ","),
        (["0,125"], ","),
        (["0.125"], "."),
        (["7", "8"], "."),
        ([], "."),
        (["1,234", "5"], "?"),
        (["2,50", "3,50", "4.50"], ","),
        (["2,50", "3.50", "4.50", "see note, please"], "."),
        (["2,50", "3.50"], "?"),
        (["1.234.567", "2.5"], "?"),
    ],
)
def test_the_decimal_sign_is_found_out(texts: list[str], sign: str) -> None:
    assert decimal_of(texts) == sign


@pytest.mark.parametrize(
    ("text", "decimal", "expected"),
    [
        ("2.50", ".", 2.5),
        (" 2,50 ", ",", 2.5),
        ("1,234.50", ".", 1234.5),
        ("1.234,50", ",", 1234.5),
        ("1'234.50", ".", 1234.5),
        ("1 234,50", ",", 1234.5),
        ("1\u00a0234,50", ",", 1234.5),
        ("1\u202f234,50 €", ",", 1234.5),
        ("€ 2.50", ".", 2.5),
        ("$2.50", ".", 2.5),
        ("-$2.50", ".", -2.5),
        ("$-2.50", ".", -2.5),
        ("2.50 USD", ".", 2.5),
        ("CHF 2.50", ".", 2.5),
        ("25 kr", ".", 25),
        ("2.50-", ".", -2.5),
        ("(2.50)", ".", -2.5),
        ("($2.50)", ".", -2.5),
        ("\u22122.50", ".", -2.5),
        ("+3", ".", 3),
        (".5", ".", 0.5),
        ("5.", ".", 5),
        ("1.5E+3", ".", 1500),
        ("2,50", ".", None),
        ("1,23,456.50", ".", 123_456.5),
        ("-1,23,456", ".", -123_456),
        ("1,2,345", ".", None),
        ("12,-", ",", 12),
        ("CHF 5.\u2013", ".", 5),
        ("-5,--", ",", -5),
        ("12,50 €-", ",", -12.5),
        ("Rs. 2.50", ".", 2.5),
        ("R$ -2,50", ",", -2.5),
        ("2,50 zł", ",", 2.5),
        ("2.50 DR", ".", None),
        ('="2.50"', ".", 2.5),
        ("1.234.567", ".", None),
        ("two", ".", None),
        ("", ".", None),
        (".", ".", None),
        ("1.2.3", ".", None),
        ("2024-01-02", ".", None),
        (None, ".", None),
    ],
)
def test_numbers_are_read_as_they_are_written(text: str | None, decimal: str, expected: float | None) -> None:
    frame = pl.DataFrame({"n": pl.Series([text], dtype=pl.String)})
    assert frame.select(number_of(pl.col("n"), decimal)).to_series().to_list() == [expected]


def test_a_decimal_comma_is_found_or_asked_for(shop: Path) -> None:
    (shop / "shop.csv").write_text("u;i;t;p\n1;a;2024-01-02;2,50\n1;b;2024-01-03;1.234,00\n")
    assert events(shop / "shop.csv", price="p")["price"].to_list() == [2.5, 1234]
    (shop / "shop.csv").write_text("u;i;t;p\n1;a;2024-01-02;1,234\n1;b;2024-01-03;2\n")
    assert 'numbers such as 1,234 may be read in two ways; write decimal: "," or decimal: "."' in refused(
        shop / "shop.csv", price="p"
    )
    assert events(shop / "shop.csv", price="p", decimal=",")["price"].to_list() == [1.234, 2]
    assert events(shop / "shop.csv", price="p", decimal=".")["price"].to_list() == [1234, 2]


def test_each_column_of_numbers_has_a_decimal_sign_of_its_own(shop: Path) -> None:
    text = "u;i;t;p;q;w\n1;a;2024-01-02;2,50;1.5;1,234\n1;b;2024-01-03;1.234,00;2;3\n"
    (shop / "shop.csv").write_text(text)
    found = events(shop / "shop.csv", price="p", quantity="q")
    assert (found["price"].to_list(), found["quantity"].to_list()) == ([2.5, 1234], [1.5, 2])
    assert events(shop / "shop.csv", price="p", quantity="w")["quantity"].to_list() == [1.234, 3]
    rule = {"name": "light", "column": "w", "less_than": 2}
    assert "numbers such as 1,234" in refused(shop / "shop.csv", price="p", quantity="q", drop=[rule])


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (["1,234", "5"], [1.234, 5]),  # as the others have it
        (["4.000", "2.000"], [4, 2]),  # nobody buys thousands each time
        (["1,234", "2,500"], 'write decimal: {q: ","} or decimal: {q: "."}'),  # either
        (["1.234", "2.500"], 'write decimal: {q: ","} or decimal: {q: "."}'),
    ],
)
def test_what_another_column_says_of_the_decimal_sign(shop: Path, weights: list[str], expected: Any) -> None:
    first, second = weights
    (shop / "shop.csv").write_text(f"u;i;t;p;q\n1;a;2024-01-02;2,50;{first}\n1;b;2024-01-03;3,75;{second}\n")
    columns: dict[str, Any] = {"price": "p", "quantity": "q"}
    if isinstance(expected, str):
        assert expected in refused(shop / "shop.csv", **columns)
        found = events(shop / "shop.csv", decimal={"q": "."}, **columns)["quantity"].to_list()
        assert found == [float(text.replace(",", "")) for text in weights]
        assert "decimal: w" in refused(shop / "shop.csv", decimal={"w": "."}, **columns)
    else:
        assert events(shop / "shop.csv", **columns)["quantity"].to_list() == expected


def test_columns_that_are_no_values_are_left_out_and_said(shop: Path) -> None:
    good = pl.DataFrame({"u": [b"1", b"2"], "i": ["a", "b"], "t": ["2024-01-02", "2024-01-03"]})
    odd = {"tags": [["x"], []], "more": [{"a": 1}] * 2, "took": [timedelta(1)] * 2, "image": [b"\xff", b"\x00"]}
    good.with_columns(pl.Series(name, values) for name, values in odd.items()).write_parquet(shop / "a.parquet")
    assert bought(shop / "a.parquet") == BOTH
    assert open_table(shop / "a.parquet", FileForm(), shop).notes == (
        "without columns of lists, records or bytes: tags, took, image",
    )
    (shop / "a.json").write_text('{"orders": [{"u": 1, "i": "a"}]}')
    assert "orders holds lists or records, expected one row a purchase" in refused(shop / "a.json")


def test_records_within_records_are_columns(shop: Path) -> None:
    lines = (f'{{"who": {{"id": "{u}", "from": {{"city": "x"}}}}, "i": "{i}", "t": "2024-01-02"}}\n' for u, i in BOTH)
    (shop / "a.jsonl").write_text("".join(lines))
    assert bought(shop / "a.jsonl", user_id="who.id", users={"attributes": ["who.from.city"]}) == BOTH


def test_a_record_is_left_out_where_a_column_is_called_as_its_own_would_be(shop: Path) -> None:
    lines = (f'{{"who": {{"id": "no"}}, "who.id": "{u}", "i": "{i}", "t": "2024-01-02"}}\n' for u, i in BOTH)
    (shop / "a.jsonl").write_text("".join(lines))
    assert bought(shop / "a.jsonl", user_id="who.id") == BOTH


@pytest.mark.parametrize(("begin", "between", "end"), [("", "\n", "\n"), ("[", ",", "]")])
def test_json_may_begin_with_a_mark_of_its_encoding(shop: Path, begin: str, between: str, end: str) -> None:
    lines = between.join(f'{{"u": "{u}", "i": "{i}", "t": "2024-01-02"}}' for u, i in BOTH)
    (shop / "a.json").write_text(f"\ufeff{begin}{lines}{end}", encoding="utf-8")
    assert bought(shop / "a.json") == BOTH


def test_numbers_of_two_signs_are_asked_for(shop: Path) -> None:
    (shop / "shop.csv").write_text("u,i,t,p\n1,a,2024-01-02,1.234.567\n1,b,2024-01-03,2.5\n")
    assert "numbers such as 1.234.567 may be read in two ways" in refused(shop / "shop.csv", price="p")


@pytest.mark.parametrize(("role", "name"), [("price", "unreadable_price"), ("quantity", "unreadable_quantity")])
def test_many_numbers_that_cannot_be_read_stop_the_command(shop: Path, role: str, name: str) -> None:
    good = "1,a,2024-01-02,3\n"
    (shop / "shop.csv").write_text("u,i,t,n\n" + good * 49 + "1,a,2024-01-02,many\n")
    assert report_of(shop / "shop.csv", **{role: "n"})["found"][name] == 1
    (shop / "shop.csv").write_text("u,i,t,n\n" + good * 48 + "1,a,2024-01-02,many\n")
    with pytest.raises(
        DataError, match=rf"1 of 49 rows \(2%\) have {name}, e\.g\. 'many' \(line 50\); write numbers alone"
    ):
        prepare(config_of(shop / "shop.csv", name="refused", **{role: "n"}))


def test_many_rows_without_a_product_stop_the_command(shop: Path) -> None:
    (shop / "shop.csv").write_text("u,i,t\n" + "1,a,2024-01-02\n" * 9 + "1,,2024-01-03\n")
    with pytest.raises(DataError, match=r"1 of 10 rows \(10%\) have missing_item_id, e\.g\. '2024-01-03' \(line 11\)"):
        report_of(shop / "shop.csv")


def test_rows_that_a_rule_drops_need_neither_product_nor_date(shop: Path) -> None:
    (shop / "shop.csv").write_text("u,i,t\n1,a,2024-01-02\nTotal,,\n")
    report = report_of(shop / "shop.csv", drop=[{"name": "sums", "column": "u", "equals": "Total"}])
    assert {rule: n for rule, n in report["dropped"].items() if n} == {"sums": 1}
    assert report["kept"] == 1


def test_negative_and_zero_quantities_stay_and_are_counted(shop: Path) -> None:
    (shop / "shop.csv").write_text("u,i,t,n\n1,a,2024-01-02,-1\n1,b,2024-01-03,0\n1,c,2024-01-04,2\n1,d,2024-01-05,\n")
    report = report_of(shop / "shop.csv", quantity="n")
    counted = {name: report["found"][name] for name in ("negative_quantity", "zero_quantity", "missing_quantity")}
    assert counted == {"negative_quantity": 1, "zero_quantity": 1, "missing_quantity": 1}
    assert open_purchases(Path("data/processed/table")).quantity.tolist() == [-1, 0, 2, 1]


# Ids, words for nothing, rules


@pytest.mark.parametrize("word", ["NA", "n/a", "#N/A", "NULL", "(null)", "NaN", "NaT", "None", "<NA>", "\\N", "-", " "])
def test_words_for_nothing_are_nothing(word: str) -> None:
    frame = pl.DataFrame({"v": [word, "Nathan"]})
    assert frame.select(is_missing(pl.col("v"))).to_series().to_list() == [True, False]
    assert all(each == each.lower() for each in NULL_WORDS)


def test_words_for_nobody_are_dropped_and_counted_and_may_be_stated(shop: Path) -> None:
    text = "u,i,t\n" + "1,a,2024-01-02\n" * 60 + "NULL,a,2024-01-02\n2,N/A,2024-01-02\nguest,a,2024-01-03\n"
    (shop / "shop.csv").write_text(text)
    dropped = report_of(shop / "shop.csv")["dropped"]
    assert (dropped["user_id_written_as_missing"], dropped["item_id_written_as_missing"]) == (1, 1)
    report = prepare(config_of(shop / "shop.csv", name="stated", missing=["Guest"]))["report"]
    assert (report["dropped"]["user_id_written_as_missing"], report["kept"]) == (1, 62)


def test_ids_are_cleaned_and_odd_ones_counted(shop: Path) -> None:
    ids = ["17850.0", "17850", "\u00a017850 ", "4.01E+12", "017850", "1.5"]
    (shop / "shop.csv").write_text("u,i,t\n" + "".join(f"{one},a,2024-01-02\n" for one in ids))
    assert events(shop / "shop.csv")["user_id"].to_list() == ["17850", "17850", "17850", "4.01E+12", "017850", "1.5"]
    found = report_of(shop / "shop.csv")["found"]
    assert found["user_id_written_as_decimal"] == 1
    assert found["user_id_in_scientific_notation"] == 1


def test_ids_that_lost_digits_as_floats_are_counted(shop: Path) -> None:
    ids = pl.Series([9.1e17 + 200 * place for place in range(3)])
    pl.DataFrame({"u": ids, "i": "a", "t": "2024-01-02"}).write_parquet(shop / "a.parquet")
    assert report_of(shop / "a.parquet")["found"]["user_id_in_scientific_notation"] == 3


def test_what_nobody_sees_in_an_id_is_no_part_of_it(shop: Path) -> None:
    first, second = (f"{one},a,2024-01-02\n" for one in ("17850", '="017850"'))
    (shop / "shop.csv").write_text(f"\ufeffu,i,t\n{first}\ufeff{first}17850\0,a,2024-01-02\n{second}", encoding="utf-8")
    assert events(shop / "shop.csv")["user_id"].to_list() == ["17850", "17850", "17850", "017850"]


def test_without_a_header_a_customer_and_a_product_may_be_called_as_their_columns(shop: Path) -> None:
    (shop / "log.csv").write_text("1,2,2024-01-02\n2,1,2024-01-03\n")
    report = report_of(shop / "log.csv", user_id=1, item_id=2, time=3)
    assert (report["dropped"]["repeated_header"], report["kept"]) == (0, 2)


def test_a_header_that_comes_again_is_no_row(shop: Path) -> None:
    (shop / "shop.csv").write_text(PLAIN * 3)
    report = report_of(shop / "shop.csv")
    assert (report["dropped"]["repeated_header"], report["dropped"]["bad_date"], report["kept"]) == (2, 0, 6)


@pytest.mark.parametrize(("value", "dropped"), [(True, {"a", "b", "c"}), (False, {"d", "e"})])
def test_a_rule_may_ask_for_true_and_false(shop: Path, value: bool, dropped: set[str]) -> None:
    flags = {"a": "true", "b": "Yes", "c": "1", "d": "FALSE", "e": "0", "f": "", "g": "perhaps"}
    (shop / "shop.csv").write_text("u,i,t,f\n" + "".join(f"1,{i},2024-01-02,{f}\n" for i, f in flags.items()))
    found = events(shop / "shop.csv", drop=[{"name": "test", "column": "f", "equals": value}])
    assert set(found.filter("_drop_0")["item_id"]) == dropped


def test_a_table_of_users_that_knows_nobody_is_refused(shop: Path) -> None:
    (shop / "shop.csv").write_text(PLAIN)
    (shop / "users.csv").write_text("number,u,city\n1,C1,Ulm\n2,C2,Bonn\n")
    users = {"file": "users.csv", "attributes": ["city"]}
    with pytest.raises(
        DataError, match=r"none of the 2 customers of .*, e\.g\. '1', stands in the table of users"
    ) as caught:
        report_of(shop / "shop.csv", users=users)
    assert "users: user_id: COLUMN" in str(caught.value)
    assert report_of(shop / "shop.csv", users=users | {"user_id": "number"})["found"]["unknown_user"] == 0


# Both engines


DIRTY = (
    'Customer;SKU;Name;When;Price;Qty\r\n;;;;;\r\n17850.0;A1;"17"" screen; black";25.3.2024 10:15;1.234,50 €;1\r\n'
    "NULL;A2;Größe L;26.3.2024 10:15;2,50;-1\r\n17850;A2;Größe L;26.3.2024 10:15;;0\r\n\r\n"
    " 12 ;A3;Müsli;27.3.2024 10:16;0,99;\r\n12;A3;müsli;1.1.1900 00:00;0,99;2\r\n"
) + "".join(f"{n % 6};B{n % 4};Çédille {n % 4};{n % 28 + 1}.2.2024 09:{n % 60:02d};3,99;1\r\n" for n in range(90))


def test_both_engines_read_a_dirty_file_alike(shop: Path) -> None:
    (shop / "shop.csv").write_bytes(DIRTY.encode("cp1252"))
    columns: dict[str, Any] = {"user_id": "Customer", "item_id": "SKU", "time": "When", "price": "Price"}
    columns |= {"quantity": "Qty", "items": {"attributes": ["Name"]}}
    made = [prepare(config_of(shop / "shop.csv", engine, engine, **columns)) for engine in ("polars", "duckdb")]
    assert made[0]["fingerprint"] == made[1]["fingerprint"]
    assert made[0]["report"] == made[1]["report"]
    assert made[0]["report"]["rows_read"] == 95
    assert made[0]["report"]["kept"] == 93
    data = open_purchases(Path("data/processed/polars"))
    names = dict(zip(data.item_ids.to_pylist(), data.items["Name"].to_list(), strict=True))
    assert names["A1"] == '17" screen; black'
    assert names["A2"] == "Größe L"
    assert names["B0"] == "Çédille 0"

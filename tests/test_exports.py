import csv
from collections.abc import Iterator
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_train import config_with
from toy import events_of, toy_data, write_prepared

import recsys
from recsys.cli import build_app
from recsys.config import dump_config
from recsys.console import run as run_app
from recsys.data import exports
from recsys.data.exports import export_lists
from recsys.errors import ConfigError, DataError, OutputExistsError, RecsysError
from recsys.modeling.train import train
from recsys.storage import replacing

N_USERS, N_ITEMS = 30, 20
NAMES = [f"Käse; No. {number}, “alt”" for number in range(1, N_ITEMS + 1)]
HEADER = ["user_id", "rank", "item_id", "item_name", "score"]


def item_id(number: int) -> str:
    return f"{number:010d}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a trained run whose items have names; the current one while a test of this file runs.

    The first customer has bought everything there is.
    """
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        events = events_of(toy_data(folder / "raw", n_users=N_USERS, n_items=N_ITEMS, n_days=60, seed=4))
        rows = events.tolist() + [[0, 18_000 + item, item] for item in range(1, N_ITEMS + 1)]
        items = pa.table({"item_id": [item_id(n) for n in range(1, N_ITEMS + 1)], "product_name": NAMES})
        write_prepared(
            folder / "data/processed/toy", rows, items=items, users=[f"u{number}" for number in range(N_USERS)]
        )
        train(config_with("training.epochs=1", "evaluation.n_bootstrap=100", "baselines.systems=[repeat,popularity]"))
        yield folder


def typed(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        run_app(build_app(words[0]), list(words))
    return int(stop.value.code or 0)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def mine(place: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder of the user's with files in it, which stay as they are."""
    folder = place / "mine"
    (folder / "deep").mkdir(parents=True, exist_ok=True)
    (folder / "letter.txt").write_text("dear")
    (folder / "deep/photo.jpg").write_bytes(b"\xff\xd8")
    before = files_of(folder)
    yield folder
    assert files_of(folder) == before
    assert not list(place.glob(".mine*"))


# Tables that people open


def test_lists_go_out_as_csv_with_names_of_the_items(place: Path) -> None:
    assert typed("predict", "--k", "3", "--out", "a.csv", "--force") == 0
    assert typed("predict", "--k", "3", "--out", "a.parquet", "--force") == 0
    with Path("a.csv").open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == HEADER
    expected = pq.read_table("a.parquet").to_pylist()
    assert [row[:3] for row in rows] == [[row["user_id"], str(row["rank"]), row["item_id"]] for row in expected]
    assert [row[3] for row in rows] == [NAMES[int(row[2]) - 1] for row in rows]
    assert [float(row[4]) for row in rows] == pytest.approx([row["score"] for row in expected], rel=1e-5)
    assert [path.name for path in place.glob(".a.*")] == []


@pytest.mark.parametrize("out", ["b.xlsx", "B.XLSX"])
def test_lists_go_out_as_a_sheet_whose_ids_keep_their_zeros(place: Path, out: str) -> None:
    assert typed("predict", "--k", "2", "--out", out, "--force") == 0
    book = openpyxl.load_workbook(out, read_only=True)
    assert book.sheetnames == ["lists"]
    header, *rows = book["lists"].iter_rows(values_only=True)
    book.close()
    assert list(header) == HEADER
    assert len(rows) == 2 * N_USERS
    assert all(name == NAMES[int(item) - 1] and len(item) == 10 for _, _, item, name, _ in rows)


def test_an_ending_is_read_in_any_case(place: Path) -> None:
    assert typed("predict", "--k", "2", "--out", "C.CSV", "--force") == 0
    assert Path("C.CSV").read_text(encoding="utf-8").startswith(",".join(HEADER))
    assert typed("predict", "--k", "2", "--out", "C.PARQUET", "--force") == 0
    assert pq.read_table("C.PARQUET").num_rows == 2 * N_USERS


def test_reasons_stand_in_the_row_of_their_item(place: Path) -> None:
    assert typed("predict", "--k", "3", "--reasons", "--out", "why/d.csv", "--force") == 0
    with Path("why/d.csv").open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == [*HEADER, "reason"]
    said = {(row["user_id"], row["rank"]): row["text"] for row in pq.read_table("why/reasons.parquet").to_pylist()}
    assert {(row[0], int(row[1])): row[5] for row in rows} == said
    assert all(said.values())


@pytest.mark.parametrize(
    "words", [("--reasons", "--out", "reasons.parquet"), ("--submission", "--out", "submission.csv")]
)
def test_lists_do_not_take_the_name_of_what_is_written_beside_them(
    place: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert typed("predict", *words) == 2
    assert "that is the name of what is written beside the lists" in capfd.readouterr().err
    assert not Path(words[-1]).exists()


def test_a_sheet_holds_no_more_rows_than_excel_does(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed("predict", "--k", "2", "--out", "e.parquet", "--force") == 0
    log = recsys.load("models/toy").log
    monkeypatch.setattr(exports, "_EXCEL_ROWS", 2 * N_USERS - 1)
    with pytest.raises(DataError, match=r"e\.xlsx: 60 rows, a sheet holds 59; write a \.csv"):
        export_lists(Path("e.parquet"), log, Path("e.xlsx"))
    assert not Path("e.xlsx").exists()


@pytest.mark.parametrize("out", ["lists.txt", "lists", "lists.csv.gz", "mine", "mine/"])
def test_a_name_that_tells_no_form_is_refused_in_one_line(
    mine: Path, capfd: pytest.CaptureFixture[str], out: str
) -> None:
    assert typed("predict", "--out", out, "--force") == 2
    error = capfd.readouterr().err
    assert "expected the name of a file that ends in .parquet, .csv, .xlsx" in error
    assert error.count("\n") == 1
    assert not Path("lists").exists()


@pytest.mark.parametrize("ending", [".csv", ".xlsx", ".parquet"])
def test_a_list_that_exists_is_replaced_by_force_alone(place: Path, ending: str) -> None:
    kept = Path(f"kept{ending}")
    kept.write_text("mine")
    assert typed("predict", "--k", "2", "--out", str(kept)) == 2
    assert kept.read_text() == "mine"
    assert typed("predict", "--k", "2", "--out", str(kept), "--force") == 0
    assert kept.stat().st_size > 100


# Nothing of others is removed


@pytest.mark.parametrize("ending", [".csv", ".xlsx", ".parquet"])
def test_a_folder_called_as_a_list_stays(place: Path, capfd: pytest.CaptureFixture[str], ending: str) -> None:
    folder = place / f"folder{ending}"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    assert typed("predict", "--out", folder.name, "--force") == 2
    assert files_of(folder) == {"letter.txt": b"dear"}
    assert capfd.readouterr().err.count("\n") == 1


def test_force_removes_no_folder_that_another_command_is_pointed_at(
    mine: Path, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tables = place / "tables"
    tables.mkdir(exist_ok=True)
    pq.write_table(pa.table({"user_id": ["a"], "rank": [1], "item_id": ["x"]}), tables / "lists.parquet")
    pq.write_table(pa.table({"user_id": ["a"], "item_id": ["x"]}), tables / "bought.parquet")
    scored = ("--recommendations", "tables/lists.parquet", "--targets", "tables/bought.parquet")
    for words in (
        ("evaluate", *scored, "--out", "mine"),
        ("inspect", "tables/lists.parquet", "--write", "mine"),
    ):
        capfd.readouterr()
        assert typed(*words, "--force") == 2, words
        error = capfd.readouterr().err
        assert "nothing is removed that recsys did not write: name another place" in error
        assert "Traceback" not in error


def test_a_snapshot_and_a_saved_model_replace_only_their_own(mine: Path, capfd: pytest.CaptureFixture[str]) -> None:
    features = import_features()
    for out, code in (("mine", 2), ("snapshot", 0), ("snapshot", 0)):
        with pytest.raises(SystemExit) as stop:
            run_app(features, ["--set", "data.source=hm", "--set", "data.name=toy", "--out", out, "--force"])
        assert (stop.value.code or 0) == code
    assert "mine holds other files" in capfd.readouterr().err
    model = recsys.load("models/toy")
    with pytest.raises(OutputExistsError, match=r"holds other files \(no run\.json\)"):
        model.save("mine", force=True)
    model.save("saved", force=True)
    model.save("saved", force=True)
    assert recsys.load("saved").recommend(k=2) is not None


def import_features() -> object:
    from recsys.features import app

    return app


def test_prepared_data_replace_only_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.csv").write_text("u,i,t\n1,a,2024-01-02\n2,b,2024-01-03\n")
    (tmp_path / "shop.yaml").write_text(
        "data: {source: table, name: shop, raw: shop.csv, columns: {user_id: u, item_id: i, time: t}}"
    )
    folder = tmp_path / "data/processed/shop"
    folder.mkdir(parents=True)
    (folder / "letter.txt").write_text("dear")
    assert typed("dataset", "main", "--config", "shop.yaml", "--force") == 2
    assert files_of(folder) == {"letter.txt": b"dear"}
    assert "nothing is removed that recsys did not write" in capfd.readouterr().err
    (folder / "letter.txt").unlink()
    assert typed("dataset", "main", "--config", "shop.yaml") == 0  # an empty folder is in nobody's way
    assert typed("dataset", "main", "--config", "shop.yaml", "--force") == 0


def test_a_training_takes_the_place_of_a_run_alone(place: Path) -> None:
    folder = place / "models/letters"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    with pytest.raises(OutputExistsError, match="holds other files than a run's, so it is not replaced"):
        train(config_with("name=letters", "training.epochs=1"), force=True)
    (folder / "config.yaml").write_text("name: letters\n")  # anybody's may be called so
    with pytest.raises(OutputExistsError, match="holds other files than a run's, so it is not replaced"):
        train(config_with("name=letters", "training.epochs=1"), force=True)
    assert files_of(folder) == {"letter.txt": b"dear", "config.yaml": b"name: letters\n"}


def test_a_training_that_was_stopped_at_its_start_is_replaced(place: Path) -> None:
    folder, config = place / "models/stopped", config_with("name=stopped", "training.epochs=1", "predict.k=3")
    folder.mkdir()
    (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    assert train(config, force=True)["metric"] == "val_map@3"


def test_lists_longer_than_the_catalogue_are_refused_before_a_run_is_touched(place: Path) -> None:
    before = files_of(place / "models/toy")
    with pytest.raises(ConfigError, match=r"hold 20 items, but lists of 21 are asked for.*--set predict\.k=19"):
        train(config_with("predict.k=21"), force=True)
    assert files_of(place / "models/toy") == before


@pytest.mark.parametrize("marker", [None, "mark.json"])
def test_a_folder_is_replaced_only_where_the_mark_of_recsys_stands_in_it(tmp_path: Path, marker: str | None) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    with pytest.raises(OutputExistsError), replacing(folder, marker):
        pytest.fail("it began to write")
    assert files_of(tmp_path) == {"folder/letter.txt": b"dear"}


def _write_on_a_full_disk(folder: Path) -> None:
    with replacing(folder, "mark.json") as aside:
        aside.mkdir()
        (aside / "half").touch()
        raise OSError(28, "No space left on device")


def test_a_replacement_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mark.json").write_text("{}")
    with pytest.raises(RecsysError, match="No space left on device; nothing was changed there"):
        _write_on_a_full_disk(folder)
    assert files_of(tmp_path) == {"folder/mark.json": b"{}"}
    with replacing(folder, "mark.json") as aside:
        aside.mkdir()
        (aside / "new").touch()
    assert files_of(tmp_path) == {"folder/new": b""}


# Lists that cannot be full


def test_who_has_bought_everything_gets_no_list_and_is_counted(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for system in ("decoder", "repeat", "popularity"):
        words = ("predict", "--k", "4", "--exclude-seen", "--system", system, "--out", "seen.parquet", "--force")
        assert typed(*words) == 0
        said = " ".join(capfd.readouterr().err.split())
        assert "1 of them get a shorter list: nothing else that may be recommended is left for them" in said
        users = pq.read_table("seen.parquet")["user_id"].to_pylist()
        assert {user: users.count(user) for user in users} == {f"u{n}": 4 for n in range(1, N_USERS)}
    assert typed("predict", "--k", "4", "--exclude-seen", "--out", "seen.csv", "--force") == 0
    assert len(Path("seen.csv").read_text(encoding="utf-8").splitlines()) == 1 + 4 * (N_USERS - 1)


def test_short_lists_stop_neither_the_library_nor_the_scores(place: Path) -> None:
    model = recsys.load("models/toy")
    lists = model.recommend(k=4, exclude_seen=True)
    users = pa.table(lists)["user_id"].to_pylist()
    assert {user: users.count(user) for user in users} == {f"u{n}": 4 for n in range(1, N_USERS)}
    assert len(model.recommend(["u0"], k=4, exclude_seen=True)) == 0
    config = config_with(
        "name=unseen",
        "training.epochs=1",
        "predict.exclude_seen=true",
        "evaluation.n_bootstrap=100",
        "baselines.systems=[popularity]",
    )
    train(config, force=True)
    assert typed("predict", "--folds", "--run", "unseen", "--force") == 0
    assert typed("evaluate", "--run", "unseen", "--force") == 0
    assert Path("reports/unseen/metrics.json").is_file()

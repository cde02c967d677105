import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import recsys
from recsys.config import dump_config, load_config
from recsys.console import run
from recsys.data import assemble
from recsys.data.forget import Forgotten, forget_in_folder, forget_in_table
from recsys.data.purchases import Purchases, open_purchases
from recsys.dataset import app
from recsys.errors import DataError, RecsysError, RunError, UsageError
from recsys.evaluation.tables import MADE_BY, RECOMMENDATIONS_SCHEMA, read_lists
from recsys.runs import CONFIG_FILE, INFO_FILE, WEIGHTS_FILE, find_run
from recsys.storage import read_json, write_json, write_text

FOLDER = Path("data/processed/shop")
USERS = [hashlib.md5(str(user).encode(), usedforsecurity=False).hexdigest() for user in range(30)]
GONE = [USERS[3], USERS[17]]
ITEMS = pa.table({"item": [f"i{number}" for number in range(9)], "colour": [None, *"abcdefgh"]})


def shop(without: list[str] = []) -> Purchases:  # noqa: B006 - never changed
    generator, rows = np.random.default_rng(0), []
    for user in USERS:
        for day in generator.permutation(28)[: generator.integers(2, 9)] + 1:  # one a day: ids settle a day's order
            item = generator.integers(9)
            rows.append((user, f"i{item}", f"2024-05-{day:02}", float(item), "web" if day % 2 else "shop"))
    rows += [(USERS[0], "i0", "2024-05-29", 1.0, "web"), (USERS[0], "i1", "2024-05-30", 1.0, "shop")]
    names = ("user", "item", "day", "price", "channel")
    columns = dict(zip(names, zip(*[row for row in rows if row[0] not in without], strict=True), strict=True))
    kept = [user for user in USERS if user not in without]
    emails = pa.array([f"{user}@example.org" for user in kept]).dictionary_encode()
    users = pa.table({"user": kept, "email": emails, "age": [USERS.index(user) for user in kept]})
    plans = pa.table({"item": ["i1"], "start": ["2024-05-02"], "end": ["2024-05-09"]})
    roles = {"user": "user", "item": "item", "time": "day", "price": "price", "channel": "channel"}
    return Purchases.from_frame(pa.table(columns), **roles, items=ITEMS, users=users, promotions=plans)


@pytest.fixture
def prepared(workplace: Path) -> Purchases:
    shop().save(FOLDER)
    return open_purchases(FOLDER)


def naming(folder: Path, user_ids: list[str]) -> set[str]:
    """Return the files below ``folder`` that hold one of the ids in clear."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix()
        for path in files
        if any(each.encode() in path.read_bytes() for each in user_ids)
    }


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_left_equals_what_is_prepared_without_these_users(prepared: Purchases) -> None:
    n_before = prepared.n_events
    gone = forget_in_folder(FOLDER, pa.array([*GONE, "unknown"]))
    expected, found = shop(without=GONE), open_purchases(FOLDER)
    assert gone == Forgotten(2, n_before - expected.n_events, 0)
    assert found.fingerprint == expected.fingerprint != prepared.fingerprint
    assert found.manifest["hashes"] == expected.manifest["hashes"]
    assert (found.n_users, found.n_events) == (28, expected.n_events)
    assert {found.manifest[name] for name in ("n_users", "n_events")} == {28, expected.n_events}
    assert found.users["email"].to_list() == [f"{user}@example.org" for user in found.user_ids.to_pylist()]
    assert found.users["age"].to_list() == expected.users["age"].to_list()
    assert found.items.to_arrow().equals(prepared.items.to_arrow())
    assert found.promotions is not None
    assert found.manifest["channels"] == prepared.manifest["channels"]
    assert found.manifest["forgotten_from"] == [prepared.fingerprint]


def test_no_file_of_the_folder_holds_the_ids(prepared: Purchases) -> None:
    assert naming(FOLDER, GONE) == {"users.parquet"}
    forget_in_folder(FOLDER, pa.array(GONE))
    assert naming(FOLDER, GONE) == set()  # the e-mail addresses hold them too
    assert naming(FOLDER, USERS[:1]) == {"users.parquet"}


def test_nothing_is_written_for_users_that_nobody_knows(prepared: Purchases) -> None:
    before = content(FOLDER)
    assert forget_in_folder(FOLDER, pa.array(["unknown"])) == Forgotten()
    assert content(FOLDER) == before


def test_somebody_has_to_stay(prepared: Purchases) -> None:
    before = content(FOLDER)
    with pytest.raises(DataError, match="holds purchases of these users alone; remove the folder instead"):
        forget_in_folder(FOLDER, pa.array(USERS))
    assert content(FOLDER) == before


def test_a_disk_that_is_full_leaves_the_folder_as_it_was(prepared: Purchases, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(FOLDER)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(assemble, "write_json", fail)
    with pytest.raises(RecsysError, match="No space left on device; nothing was changed there"):
        forget_in_folder(FOLDER, pa.array(GONE))
    assert content(FOLDER) == before
    assert [path.name for path in FOLDER.parent.iterdir()] == [FOLDER.name]


def test_it_is_said_when_the_data_end_earlier(prepared: Purchases, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--user", USERS[0]) == 0
    assert "the data end 2 days earlier, and so do test windows" in capsys.readouterr().err


def make_run(name: str, fingerprint: str, *settings: str) -> Path:
    folder = Path("models") / name
    write_text(folder / CONFIG_FILE, dump_config(load_config(None, [f"name={name}", "data.name=shop", *settings])))
    write_json(folder / INFO_FILE, {"seed": 42, "data_fingerprint": fingerprint})
    write_text(folder / WEIGHTS_FILE, "weights")
    return folder


def test_a_run_stays_usable_however_often_users_are_removed(prepared: Purchases) -> None:
    make_run("small", prepared.fingerprint)
    make_run("other", "f" * 64)
    make_run("drawn", prepared.fingerprint, "split.protocol=customers")
    assert find_run("drawn").open_data().n_users == 30
    for n_left, user in ((29, GONE[0]), (28, GONE[1])):
        forget_in_folder(FOLDER, pa.array([user]))
        assert find_run("small").open_data().n_users == n_left
    with pytest.raises(RunError, match="now holds other data"):
        find_run("other").open_data()
    with pytest.raises(RunError, match="not known any more whom it has held out; train anew"):
        find_run("drawn").open_data()
    make_run("between", open_purchases(FOLDER).manifest["forgotten_from"][1])
    assert find_run("between").open_data().n_users == 28


def write_lists(path: Path, users: list[str]) -> pa.Table:
    """Write lists as they are written, a row group for some users each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns, parts = RECOMMENDATIONS_SCHEMA.with_metadata({MADE_BY: "a training"}), []
    with pq.ParquetWriter(path, columns) as writer:
        for some in (users[:10], users[10:11], users[11:]):
            ids = pa.array([user for user in some for _ in range(2)]).dictionary_encode()
            items = pa.array(["i1", "i2"] * len(some)).dictionary_encode()
            scores = pa.array(np.arange(2 * len(some)), pa.float32())
            parts.append(pa.table([ids, pa.array([1, 2] * len(some), pa.int32()), items, scores], schema=columns))
            writer.write_table(parts[-1])
    return pa.concat_tables(parts)


def test_lists_lose_the_rows_of_these_users_and_keep_all_else(prepared: Purchases) -> None:
    path = Path("lists.parquet")
    before = write_lists(path, USERS)
    assert naming(Path(), GONE) == {"lists.parquet", "data/processed/shop/users.parquet"}
    assert forget_in_table(path, pa.array([*GONE, USERS[10]])) == 6
    after = pq.read_table(path)
    rows = [row for row in before.to_pylist() if row["user_id"] not in (*GONE, USERS[10])]
    assert after.to_pylist() == rows
    assert after.schema.equals(pq.read_schema(path), check_metadata=True)
    assert after.schema.metadata[MADE_BY] == b"a training"
    assert naming(Path(), GONE) == {"data/processed/shop/users.parquet"}
    kept = np.array([0, 1, 2])
    assert read_lists(path, prepared, kept, "a training").tolist() == [[2, 3]] * 3


def test_tables_without_these_users_are_not_written(workplace: Path) -> None:
    write_lists(Path("lists.parquet"), USERS[:2])
    pq.write_table(pa.table({"item_id": GONE}), "items.parquet")
    pq.write_table(pa.table({"user_id": USERS}), "plain.parquet")
    before = content(Path())
    assert forget_in_table(Path("lists.parquet"), pa.array(GONE)) == 0
    assert forget_in_table(Path("items.parquet"), pa.array(GONE)) == 0
    assert content(Path()) == before
    assert forget_in_table(Path("plain.parquet"), pa.array(GONE)) == 2


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        run(app, ["forget", "--processed", str(FOLDER), *words])
    return int(caught.value.code or 0)


def test_the_command_finds_the_runs_of_the_data_and_leaves_the_others(
    prepared: Purchases, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, fingerprint in (("small", prepared.fingerprint), ("other", "f" * 64)):
        make_run(name, fingerprint)
        report = Path("reports") / name
        write_lists(report / "recommendations" / "decoder" / "2024-05-01.parquet", USERS)
        write_lists(report / "recommendations.parquet", USERS)
        write_lists(report / ".recommendations.parquet.0123456789abcdef.chunks" / "0.parquet", USERS)
        write_text(report / ".recommendations.parquet.01234567.part", GONE[0])
        for page in ("index.html", "recommendations.csv", "map-items.html"):
            write_text(report / page, "" if page == "map-items.html" else GONE[0])
    recsys.fit(prepared, "popularity").save("kept/saved")
    other = content(Path("reports/other"))
    Path("gone.txt").write_text(f"user_id\n{GONE[1]}\n")
    for _ in range(2):  # doing it again does no harm
        assert command("--user", GONE[0], "--users", "gone.txt", "--run", "kept/saved") == 0
    said = capsys.readouterr().err
    assert f"{FOLDER}: removed 2 of 2 users" in said
    assert "kept/saved/histories: removed 2 users" in said
    assert "reports/small: removed 8 rows of 2 tables" in said
    assert "reports/small/index.html: removed, for it may show them" in said
    assert not any(user in said for user in GONE)
    for folder in ("data", "kept", "models", "reports/small"):
        assert naming(Path(folder), GONE) == set()
    assert Path("reports/small/map-items.html").is_file()
    assert not Path("reports/small/recommendations.csv").exists()
    assert content(Path("reports/other")) == other
    model = recsys.load("kept/saved")
    assert model.recommend([USERS[0]], k=2)["rank"].to_pylist() == [1, 2]
    with pytest.raises(DataError, match="are unknown"):
        model.recommend(GONE[:1])
    assert read_json(FOLDER / "manifest.json")["n_users"] == 28


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ([], UsageError, "nobody is named; expected --user ID, or --users FILE"),
        (["--users", "missing.txt"], DataError, "missing.txt is missing; expected user ids, one a line"),
        (["--user", "a", "--run", "nowhere"], RunError, "there is no folder models/nowhere"),
        (["--user", "a", "--processed", "nowhere"], DataError, "nowhere holds no prepared data"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_changes(
    prepared: Purchases, capsys: pytest.CaptureFixture[str], words: list[str], error: type[RecsysError], message: str
) -> None:
    before = content(Path())
    assert command(*words) == error.exit_code
    assert message in capsys.readouterr().err
    assert content(Path()) == before

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from recsys.errors import OutputExistsError, RecsysError
from recsys.storage import file_hash, read_json, replacing, require_absent, unfinished, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_json_comes_back_as_it_was_written(tmp_path):
    value = {"näme": [1, 2.5, None, True], "nested": {"k": "v"}}
    write_json(tmp_path / "deep" / "value.json", value)
    assert read_json(tmp_path / "deep" / "value.json") == value


def test_json_refuses_what_json_cannot_say(tmp_path):
    write_json(tmp_path / "value.json", 1)
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "value.json", float("nan"))
    assert read_json(tmp_path / "value.json") == 1


def test_reading_a_missing_file_names_it(tmp_path):
    with pytest.raises(RecsysError, match=r"none\.json is missing"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("content", [b"", b'{"cut": [1, 2', b"\xff\xfe"])
def test_reading_a_damaged_file_says_so(tmp_path, content):
    (tmp_path / "cut.json").write_bytes(content)
    with pytest.raises(RecsysError, match=r"cut\.json is not JSON"):
        read_json(tmp_path / "cut.json")


def test_hash_is_sha256_of_the_bytes(tmp_path):
    (tmp_path / "empty").touch()
    assert file_hash(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def write_half(target: Path, interruption: type[BaseException]) -> None:
    with replacing(target) as aside:
        aside.write_text("half")
        raise interruption


def write_half_a_folder(target: Path) -> None:
    with replacing(target, "old.npy") as aside:
        aside.mkdir()
        (aside / "new.npy").touch()
        raise ValueError("half")


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path, interruption):
    target = tmp_path / "table.csv"
    write_text(target, "old")
    with pytest.raises(interruption):
        write_half(target, interruption)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["table.csv"]


def test_an_interrupted_write_of_a_folder_leaves_the_old_folder_alone(tmp_path):
    target = tmp_path / "prepared"
    target.mkdir()
    (target / "old.npy").touch()
    with pytest.raises(ValueError, match="half"):
        write_half_a_folder(target)
    assert names(tmp_path) == ["prepared"]
    assert names(target) == ["old.npy"]


def test_a_replaced_folder_holds_only_what_is_new(tmp_path):
    target = tmp_path / "prepared"
    target.mkdir()
    (target / "old.npy").touch()
    with replacing(target, "old.npy") as aside:
        aside.mkdir()
        (aside / "new.npy").touch()
    assert names(tmp_path) == ["prepared"]
    assert names(target) == ["new.npy"]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    target = tmp_path / "table.csv"
    write_text(target, "old")
    with replacing(target) as aside:
        aside.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


WRITE_TOO_MUCH = """
import resource, sys
from pathlib import Path
from recsys.errors import RecsysError
from recsys.storage import replacing, write_text
if sys.argv[1] == "weights":
    import torch
    from recsys.modeling.decoder.weights import save_weights
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    if sys.argv[1] == "weights":
        save_weights({"items": torch.zeros(10_000)}, Path("weights.safetensors"))
    elif sys.argv[1] == "file":
        write_text(Path("table.csv"), "new" * 10_000)
    else:
        with replacing(Path("prepared"), "item.npy") as aside:
            aside.mkdir()
            (aside / "item.npy").write_bytes(bytes(10_000))
except RecsysError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on file sizes")
@pytest.mark.parametrize(
    ("kind", "name"), [("file", "table.csv"), ("folder", "prepared/item.npy"), ("weights", "weights.safetensors")]
)
def test_a_disk_without_room_leaves_the_old_file_and_ends_in_one_line(tmp_path, kind, name):
    write_text(tmp_path / name, "old")
    done = subprocess.run(
        [sys.executable, "-c", WRITE_TOO_MUCH, kind], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"could not write {Path(name).parts[0]}: ")
    assert done.stdout.count("\n") == 1
    assert (tmp_path / name).read_text() == "old"
    assert names(tmp_path) == [Path(name).parts[0]]


def test_a_file_in_the_place_of_a_parent_folder_ends_in_one_line(tmp_path):
    (tmp_path / "reports").write_text("I am a file")
    with pytest.raises(RecsysError, match="could not write"):
        write_text(tmp_path / "reports" / "metrics.json", "{}")
    assert names(tmp_path) == ["reports"]


def test_a_link_to_a_folder_is_replaced_and_what_it_pointed_to_stays(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "old.npy").touch()
    (tmp_path / "prepared").symlink_to("elsewhere")
    with replacing(tmp_path / "prepared", "old.npy") as aside:
        aside.mkdir()
    assert names(tmp_path) == ["elsewhere", "prepared"]
    assert names(tmp_path / "elsewhere") == ["old.npy"]


def test_an_output_that_exists_needs_force(tmp_path):
    write_text(tmp_path / "out", "old")
    with pytest.raises(OutputExistsError, match="--force"):
        require_absent(tmp_path / "out", force=False)
    require_absent(tmp_path / "out", force=True)


def test_an_absent_output_and_an_empty_folder_need_no_force(tmp_path):
    require_absent(tmp_path / "absent", force=False)
    (tmp_path / "empty").mkdir()
    require_absent(tmp_path / "empty", force=False)


def test_what_is_unfinished_is_found_again_by_the_same_work_alone_and_goes_in_the_end(tmp_path):
    path = tmp_path / "out" / "lists[1].parquet"
    with suppress(RuntimeError), unfinished(path, "one") as folder:
        (folder / "part").write_text("made")
        raise RuntimeError
    with suppress(RuntimeError), unfinished(path, "another") as other:
        assert not (other / "part").exists()
        raise RuntimeError
    assert names(path.parent) == [folder.name]  # of the other nothing was worth keeping
    with unfinished(path, "one") as again:
        assert (again / "part").read_text() == "made"
    assert names(path.parent) == []


def test_the_end_removes_no_folder_of_anybody_else(tmp_path):
    path = tmp_path / "a.parquet"
    theirs = [".a.parquet.mine.chunks", ".a.parquet.0123456789abcdef"]
    for name in theirs:
        (tmp_path / name).mkdir()
    with unfinished(tmp_path / "a.parquet.b.parquet", "x") as other, unfinished(path, "older") as older:
        with unfinished(path, "one"):
            (older / "part").write_text("made")
        assert (older / "part").exists()  # somebody is at work there
        with pytest.raises(OutputExistsError, match=r"another command is writing .*a\.parquet; wait for it"):
            unfinished(path, "older").__enter__()
        assert other.exists()
    assert names(tmp_path) == sorted(theirs)


def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecsysError, match=r"could not write .*lists: Not a directory; choose another place"):
        unfinished(tmp_path / "file" / "lists", "one").__enter__()

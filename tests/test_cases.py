from pathlib import Path

import pytest

from tools.cases import run_cases


def write_case(folder: Path, name: str, script: str) -> None:
    (folder / name).mkdir()
    (folder / name / "run.sh").write_text(script, encoding="utf-8")


def test_each_case_has_a_line_and_one_that_fails_is_told(tmp_path, capsys):
    write_case(tmp_path, "a-right", 'echo "PASS: given $1"\n')
    write_case(tmp_path, "b-to-look-at", 'echo "SKIP: look"; exit 3\n')
    assert run_cases(tmp_path, tmp_path)
    assert capsys.readouterr().out.splitlines()[:2] == ["a-right: PASS", "b-to-look-at: no verdict"]
    write_case(tmp_path, "c-wrong", 'echo "PASS: one"; echo "FAIL: two of three"\n')
    assert not run_cases(tmp_path, tmp_path)
    assert capsys.readouterr().out.splitlines()[2:] == [
        "c-wrong: FAIL",
        "  FAIL: two of three",
        "1 of 3 cases fail: c-wrong",
    ]


def test_a_folder_without_cases_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="holds no folder"):
        run_cases(tmp_path, tmp_path)

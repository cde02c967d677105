"""``benchmarks.selection``: our selection of purchases beside pandas', on a size for tests."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import selection
from recsys.data.synthetic.write import synthesize


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> selection.Comparison:
    folder = tmp_path_factory.mktemp("selection")
    synthesize(folder / "raw", n_customers=600, seed=1)
    return selection.compare(folder / "raw", folder, n_articles=50)


def test_both_programs_keep_the_same_customers_with_as_many_purchases(found):
    assert found.ours.counts == found.pandas.counts
    assert found.equal_histories
    assert 0 < found.ours.counts["histories"] < found.ours.counts["customers"] < found.ours.counts["purchases"]
    assert found.n_rows > found.ours.counts["purchases"]


@pytest.mark.parametrize(("equal", "code"), [(True, 0), (False, 1)])
def test_the_table_holds_both_and_the_command_fails_where_they_differ(found, tmp_path, monkeypatch, equal, code):
    monkeypatch.setattr(selection, "compare", lambda *_: replace(found, equal_histories=equal))
    assert selection.main(["--raw", str(tmp_path)], tmp_path / "RESULTS.md") == code
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    kept = f"{found.ours.counts['histories']:,}"
    assert f"| histories of 2 to 10 of them | {kept} | {kept} |" in text
    assert ("DIFFER" in text) is not equal


def test_the_rules_in_pandas_break_ties_by_the_smaller_id(tmp_path: Path):
    from benchmarks.published_rules import select

    pairs = [("u1", "0300"), ("u1", "0300"), ("u2", "0200"), ("u2", "0200"), ("u3", "0100"), ("u3", "0900")]
    pairs += [("u4", "0100"), ("u5", "0300")]
    lines = ["customer_id,article_id", *(f"{user},{article}" for user, article in pairs)]
    (tmp_path / "transactions_train.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    counts, kept = select(tmp_path / "transactions_train.csv", 2)
    assert counts == {"purchases": 5, "customers": 4, "histories": 1}  # 0300 three times, then 0100 before 0200
    assert kept.to_dict() == {"u1": 2}

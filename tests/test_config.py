from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import Config, ModelConfig, TrainingConfig, dump_config, load_config
from recsys.errors import ConfigError
from tools.pages import configuration, sections

NAMED = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
KEYS = [
    f"{section}.{key}" if section else key
    for section, model in sections(Config)
    for key in model.model_fields
    if not (section == "" and key in dict(sections(Config)))
]


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_everything_is_the_default():
    assert load_config() == Config()


def test_a_file_changes_only_what_it_lists(tmp_path):
    config = load_config(written(tmp_path, "model: {width: 64}"))
    assert config == Config(model=ModelConfig(width=64))


def test_an_empty_file_changes_nothing(tmp_path):
    assert load_config(written(tmp_path, "")) == Config()


def test_set_changes_one_value_of_the_file(tmp_path):
    path = written(tmp_path, "model: {width: 64, n_layers: 3}")
    config = load_config(path, ["model.n_layers=4", "training.lr=3e-4", "data.source=hm"])
    assert (config.model.width, config.model.n_layers, config.data.source) == (64, 4, "hm")
    assert config.training.lr == pytest.approx(0.0003)


def test_the_last_set_wins():
    assert load_config(None, ["seed=1", "seed=2"]).seed == 2


def test_set_reads_lists_and_dates_as_yaml():
    config = load_config(None, ["evaluation.cutoffs=[3, 12]", "split.end=2017-12-25"])
    assert config.evaluation.cutoffs == (3, 12)
    assert config.split.end.isoformat() == "2017-12-25"


def test_set_to_null_means_no_value():
    assert load_config(None, ["data.top_k_items=null"]).data.top_k_items is None


@pytest.mark.parametrize(
    ("text", "unknown", "nearest"),
    [
        ("modle: {width: 64}", "modle", "model"),
        ("model: {widht: 64}", "model.widht", "model.width"),
        ("training: {xyz: 1, epoch: 3}", "training.xyz", "known keys here: epochs"),
        ("split: {n_fold: 2}", "split.n_fold", "split.n_folds"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(tmp_path, text, unknown, nearest):
    with pytest.raises(ConfigError, match=rf"run\.yaml: unknown key {unknown}; .*{nearest}"):
        load_config(written(tmp_path, text))


@pytest.mark.parametrize(
    ("override", "nearest"),
    [("modell.n_layers=4", "model"), ("model.layers=4", "model.n_layers"), ("sed=3", "seed")],
)
def test_an_unknown_key_of_set_is_named_with_the_nearest_known_one(override, nearest):
    with pytest.raises(ConfigError, match=rf"the command line: unknown key .*did you mean {nearest}\?"):
        load_config(None, [override])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.width=wide", r"model\.width: .*integer.*found 'wide'"),
        ("model.width=0", r"model\.width: .*greater than or equal to 8.*found 0"),
        ("model.dropout=1", r"model\.dropout: .*less than 1"),
        ("model.attention_window=0", r"model\.attention_window: .*greater than or equal to 1"),
        ("model.n_heads=3", r"model: .*width 64 is not a multiple of n_heads 3"),
        ("data={min_history: 3, max_history: 2}", r"data: min_history 3 is above max_history 2$"),
        ("split.end=2020-13-45", r"split\.end=2020-13-45.*month must be in 1\.\.12"),
        ("split.end=soon", r"split\.end: .*date.*found 'soon'"),
        ("name=../elsewhere", r"name: expected letters.*found '\.\./elsewhere'"),
        ("model=4", r"model: .*found 4"),
        ("training.lr=nan", r"training\.lr"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_was_expected(override, expected):
    with pytest.raises(ConfigError, match=expected) as caught:
        load_config(None, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.width", "not of the form"),
        ("=4", "not of the form"),
        ("model.width=[1", "not a YAML value"),
        ("model.width.deep=4", r"model\.width"),
    ],
)
def test_a_set_that_is_not_key_and_value_is_refused(override, expected):
    with pytest.raises(ConfigError, match=expected):
        load_config(None, ["model.width=128", override])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: {width: [", r"run\.yaml is not YAML"),
        ("a: b: c", r"run\.yaml is not YAML"),
        ("split: {end: 2020-13-45}", r"run\.yaml is not YAML: month must be in 1\.\.12"),
        ("- model", r"run\.yaml holds a list, expected a mapping"),
        ("just words", r"run\.yaml holds a str, expected a mapping"),
        ("!!python/object/apply:os.getcwd []", r"run\.yaml is not YAML"),
    ],
)
def test_a_file_that_is_not_a_configuration_ends_in_one_line(tmp_path, text, expected):
    with pytest.raises(ConfigError, match=expected) as caught:
        load_config(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_ends_in_one_line_that_names_those_there_are(workplace):
    (workplace / "configs").mkdir()
    (workplace / "configs" / "tiny.yaml").touch()
    with pytest.raises(ConfigError, match=r"configs/tinny\.yaml is missing; .*configs/tiny\.yaml"):
        load_config(Path("configs/tinny.yaml"))


@pytest.mark.parametrize("path", NAMED, ids=lambda path: path.stem)
def test_every_named_run_loads_and_is_called_like_its_file(path):
    assert load_config(path).name == path.stem


@given(
    width=st.integers(1, 64).map(lambda heads: heads * 8),
    lr=st.floats(1e-9, 10, exclude_min=True),
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]*", fullmatch=True),
    end=st.dates().map(lambda day: day.isoformat()),
    cutoffs=st.lists(st.integers(1, 100), min_size=1, max_size=5),
)
def test_a_dumped_configuration_loads_as_the_same(tmp_path_factory, width, lr, name, end, cutoffs):
    config = Config.model_validate(
        {
            "name": name,
            "model": {"width": width},
            "training": {"lr": lr},
            "split": {"end": end},
            "evaluation": {"cutoffs": cutoffs},
        }
    )
    path = written(tmp_path_factory.getbasetemp(), dump_config(config))
    assert load_config(path) == config


def test_a_configuration_cannot_be_changed_after_it_is_loaded():
    with pytest.raises(ValueError, match="frozen"):
        TrainingConfig().epochs = 3


def test_prepared_data_lie_under_the_name_or_the_source():
    assert load_config(None, ["data.source=hm"]).data.folder == Path("data/processed/hm")
    assert load_config(None, ["data.source=hm", "data.name=small"]).data.folder == Path("data/processed/small")


@pytest.mark.parametrize("key", KEYS)
def test_every_key_stands_in_the_documentation_with_its_meaning(key):
    line = next(line for line in configuration().splitlines() if line.startswith(f"| `{key}` |"))
    assert line.strip("| ").split(" | ")[-1].strip(), line


@pytest.mark.parametrize(
    "overrides",
    [
        ["split.protocol=leave_one_out"],
        ["split.protocol=customers"],
        ["original.family=id"],
        ["original.family=id", "split.protocol=customers"],
        ["text_model.objective=causal"],
    ],
)
def test_learning_until_the_test_window_is_refused_where_no_decoder_is_asked_at_dates(overrides):
    assert load_config(None, ["training.until=test"]).training.until == "test"
    with pytest.raises(
        ConfigError, match=r"training\.until is test, known to .* leave it out, or set it to validation"
    ):
        load_config(None, [*overrides, "training.until=test"])


@pytest.mark.parametrize(
    ("text", "override", "origin"),
    [
        ("model: {widht: 64}", "model.width=32", r".*run\.yaml"),
        ("model: {width: 64}", "model.widht=32", "the command line"),
        ("model: {width: wide}", "model.n_layers=1", r".*run\.yaml"),
        ("model: {width: 64}", "model.n_layers=many", "the command line"),
        ("model: {n_heads: 3}", "model.width=32", r".*the command line"),
    ],
)
def test_a_mistake_is_said_of_the_place_where_it_was_written(tmp_path, text, override, origin):
    with pytest.raises(ConfigError, match=rf"^{origin}: (unknown key )?model"):
        load_config(written(tmp_path, text), [override])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model=4", "expected a section with keys of its own"),
        ("evaluation.cutoffs=5", r"expected a list"),
        ("evaluation.cutoffs=[]", "at least 1"),
        ("evaluation.cutoffs=[0]", "greater than or equal to 1"),
        (
            "data.engine=pandas",
            r"the command line: data\.engine: expected 'polars', 'duckdb' or 'spark' \(found 'pandas'\)",
        ),
    ],
)
def test_what_only_a_later_command_would_trip_over_is_refused_at_once(override, expected):
    with pytest.raises(ConfigError, match=expected):
        load_config(None, [override])


def test_a_folder_in_place_of_a_configuration_is_called_one(tmp_path):
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)

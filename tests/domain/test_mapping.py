"""Source mappings: those shipped load, and wrong ones are refused by name."""

from pathlib import Path

import pytest

from habitus.domain.mapping import load_label_mapping, load_mapping
from habitus.errors import SettingsError
from habitus.loading import configuration_folder

pytestmark = pytest.mark.plain

GOOD = "name: x\nformat: csv\ncolumns: {user_id: u, event_time: t, action: a}\n"


def test_every_shipped_mapping_loads_under_its_own_name() -> None:
    paths = list((configuration_folder() / "sources").glob("*.yaml"))

    assert len(paths) >= 5
    assert [path.stem for path in paths] == [load_mapping(str(path)).name for path in paths]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("user_id", "userid"), ["columns", "'userid'", "'user_id'"]),
        (GOOD.replace("user_id: u, ", ""), ["columns", "'user_id'", "Add it"]),
        (GOOD.replace("csv", "xls"), ["'format'", "'xls'", "'csv'"]),
        (GOOD + "valied: {}\n", ["'valied'", "'valid'"]),
        (
            GOOD + "label_file: {path: l, format: csv, columns: {unit: x}}\n",
            ["label_file.columns", "'unit'", "'unit_id'"],
        ),
        (GOOD + "label: {unit_kind: event, value: f}\n", ["'label.known_after'", "missing"]),
    ],
)
def test_a_wrong_mapping_is_refused_by_name(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "source.yaml"
    path.write_text(text)

    with pytest.raises(SettingsError) as caught:
        load_mapping(str(path))

    assert caught.value.place.startswith(str(path))
    for word in words:
        assert word in str(caught.value)


LABELS = (
    "name: bank\nlabel_file: {format: delta, "
    "columns: {unit_kind: k, unit_id: u, label: l, known_at: t}}\n"
)


def test_a_source_of_labels_has_them_where_its_input_is(tmp_path: Path) -> None:
    (tmp_path / "bank.yaml").write_text(LABELS)

    assert load_label_mapping(str(tmp_path / "bank.yaml")).label_file.path == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD, ["'format'", "Known names: label_file, name."]),
        (LABELS.replace("known_at: t", "kind: t"), ["label_file.columns", "'known_at'", "Add it"]),
        (LABELS.replace("unit_id: u", "unit: u"), ["label_file.columns", "'unit'", "'unit_id'"]),
    ],
)
def test_a_wrong_mapping_of_labels_is_refused_by_name(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    (tmp_path / "bank.yaml").write_text(text)

    with pytest.raises(SettingsError) as caught:
        load_label_mapping(str(tmp_path / "bank.yaml"))

    for word in words:
        assert word in str(caught.value)


def test_a_missing_mapping_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(GOOD)

    with pytest.raises(SettingsError, match=r"no such file\. Did you mean 'shop'\?"):
        load_mapping(str(tmp_path / "shopp.yaml"))

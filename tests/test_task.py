"""Task files: every scalar is text, mistakes are named in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candist.errors import CandistError, TaskError
from candist.task import OTHER, Label, LabelSpace, Task, fold, parse_task

HEAD = "name: t\n"


def test_every_scalar_is_text() -> None:
    task = parse_task(HEAD + "labels: {no: yes, 1: 0x1F, null: ~, ünï: 2024-01-01, 1e3: .inf}")
    assert task.space.names == ("no", "1", "null", "ünï", "1e3")
    assert [label.description for label in task.labels] == ["yes", "0x1F", "~", "2024-01-01", ".inf"]


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("labels: [a, b]", ("a", "b")),
        ("labels: {a: first, b: }", ("a", "b")),
        ("labels: [a: first, b: second]", ("a", "b")),
        ("labels: [{name: a, description: first}, b]", ("a", "b")),
        ("labels: {a: {description: first, aliases: x, examples: [y, z]}, b: second}", ("a", "b")),
    ],
)
def test_labels_have_short_and_long_forms(written: str, names: tuple[str, ...]) -> None:
    assert parse_task(HEAD + written).space.names == names


PROBLEMS = {
    "": "the file is empty; expected name, instruction and labels; 'candist init DIR' writes one",
    "just words": "the file holds 'just words'; expected 'key: value' lines; 'candist init DIR' shows how",
    "name: [t]\nlabels: [a, b]": "'name' is ['t']; expected a valid string; change it",
    "labels: [a, b]": "'name' is missing; expected a value for 'name'; add it",
    HEAD: "'labels' is missing; expected a value for 'labels'; add it",
    HEAD + "labels: a": "'labels' is 'a'; expected a mapping of class names to descriptions; write one",
    HEAD + "labels: [a]": "'labels' has 1 class(es); expected 2 to 1,000; add classes",
    HEAD + "labels: [a, A]": "class 'A' repeats class 'a'; expected each once; rename or remove one",
    HEAD + "labels: {a: x, b: y, a: z}": "line 2 repeats 'a'; expected each name once; rename or remove one",
    HEAD + "labels: [a, '']": "a class has an empty name; expected every class to have one; name it",
    HEAD + 'labels: [a, "b\\nc"]': "class 'b\\nc' has a line break; expected a name on one line; rename it",
    HEAD + "labels: {a: [x], b: y}": "class 'a' has ['x']; expected a description; write one line of text",
    HEAD + "labels: {a: {descr: x}, b: y}": "unknown key 'descr' of a class; did you mean 'description'?",
    HEAD + "labels: {a: {aliases: b}, b: y}": (
        "'b' names both class 'a' and class 'b'; expected each spelling to name one class; remove an alias"
    ),
    HEAD + "labels: {a: {aliases: ''}, b: y}": "class 'a' has an empty alias; expected text; remove it",
    HEAD + "labels: [a, other]\nother: true": (
        "class 'other' and 'other: true' mean the same; expected one of them; remove the class"
    ),
    HEAD + "labels: [a, b]\nother: perhaps": (
        "'other' is 'perhaps'; expected a valid boolean, unable to interpret input; change it"
    ),
    HEAD + "labels: [a, b]\nlables: [c]": "unknown key 'lables'; expected only known keys; did you mean 'labels'?",
    HEAD + "labels: [a, b]\ntext: []": (
        "'text' names no column; expected at least one; write the name of the text column"
    ),
    HEAD + "labels: [a, b]\ntemplate: plain": (
        "'template' is 'plain'; expected column names in braces; write '{title}'"
    ),
    HEAD + "labels: [a, b]\ntext: [u, v]\ntemplate: '{u}'": (
        "'template' leaves out column 'v'; expected all of them; add '{v}'"
    ),
    "name: a: b": (
        "line 1: mapping values are not allowed in this context; expected valid YAML; "
        "quote a text that holds ': ' or starts with a special sign"
    ),
    HEAD + "labels:\n  ? [a]\n  : b": "line 3 has a list or mapping as a key; expected text; write a plain name",
}


@pytest.mark.parametrize("written", PROBLEMS, ids=lambda written: written[:30] or "empty")
def test_problems_are_named_in_one_line(written: str) -> None:
    with pytest.raises(TaskError) as caught:
        parse_task(written)
    assert str(caught.value) == PROBLEMS[written]


def test_too_many_classes() -> None:
    names = ", ".join(f"c{i}" for i in range(1001))
    with pytest.raises(TaskError, match=r"'labels' has 1,001 classes; expected 2 to 1,000; split the task"):
        parse_task(f"{HEAD}labels: [{names}]")


def test_file_problems(tmp_path: Path) -> None:
    with pytest.raises(CandistError) as caught:
        Task.load(tmp_path / "no.yaml")
    assert str(caught.value).endswith("expected a task file; 'candist init DIR' writes one to start from")
    with pytest.raises(TaskError, match="is a folder; expected a task file"):
        Task.load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(TaskError, match="byte 9 is not UTF-8; expected a UTF-8 text file; save it as UTF-8"):
        Task.load(tmp_path / "latin.yaml")


def test_spelling_does_not_matter_and_aliases_count() -> None:
    space = LabelSpace([Label(name="Sci/Tech", aliases=("science",)), Label(name="Straße")], other=True)
    assert space.resolve("  sci/TECH ") == "Sci/Tech"
    assert space.resolve("Science") == "Sci/Tech"
    assert space.resolve("STRASSE") == "Straße"
    assert space.resolve("None of these") == OTHER
    assert space.resolve("tech") is None


@given(st.text())
def test_folding_twice_is_folding_once(written: str) -> None:
    assert fold(fold(written)) == fold(written)


def test_several_columns_make_one_text() -> None:
    task = parse_task(HEAD + "labels: [a, b]\ntext: [title, body]")
    assert task.compose({"title": "T {body}", "body": "B"}) == "T {body}\nB"
    task = parse_task(HEAD + "labels: [a, b]\ntext: [title, body]\ntemplate: '{title}: {body}!'")
    assert task.compose({"title": "T {body}", "body": "B"}) == "T {body}: B!"


def test_the_schema_for_editors_is_json_and_names_all_keys() -> None:
    schema = json.loads(json.dumps(Task.file_schema()))
    assert set(schema["properties"]) == set(Task.model_fields)
    assert schema["additionalProperties"] is False


def test_a_task_survives_json() -> None:
    task = parse_task(HEAD + "labels: {a: {aliases: x, examples: y}, b: z}\nother: yes")
    assert Task.model_validate_json(task.model_dump_json()) == task

"""What to label and how: `Label`, `LabelSpace`, `Task`, and the reading of ``task.yaml``.

Every scalar of a task file is read as text, so that classes named ``no``, ``1`` or ``1e3`` stay what they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from candist.errors import MissingFileError, TaskError, did_you_mean, first_problem, shorten

#: The final outcome "no class fits"; legal only where the task says ``other: true``.
OTHER = "none of these"
OTHER_ALIASES = ("other", "none", "none of the above")
MAX_LABELS = 1000


class Label(BaseModel):
    """One class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="The class name as it will stand in the output.")
    description: str = Field("", description="What belongs to the class; the teacher reads it.")
    aliases: tuple[str, ...] = Field((), description="Other spellings that count as this class in answers.")
    examples: tuple[str, ...] = Field((), description="A few texts of this class; the offline teacher uses them.")

    @field_validator("name", "description", mode="after")
    @classmethod
    def _strip(cls, value: str) -> str:
        return value.strip()

    @field_validator("aliases", "examples", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class LabelSpace:
    """The classes in order, and the one place where a written name becomes a class.

    Parameters
    ----------
    labels
        At least one label; `Task` checks the rest.
    other
        Whether `OTHER` is a legal outcome.
    """

    def __init__(self, labels: Sequence[Label], other: bool = False) -> None:
        self.labels = tuple(labels)
        self.names = tuple(label.name for label in labels)
        self.other = other
        self.index = {name: k for k, name in enumerate(self.names)}
        self._spellings: dict[str, str] = {}
        for label in labels:
            for spelling in (label.name, *label.aliases):
                self._claim(spelling, label.name)
        if other:
            for spelling in (OTHER, *OTHER_ALIASES):
                self._claim(spelling, OTHER)

    def __len__(self) -> int:
        return len(self.names)

    def resolve(self, written: str) -> str | None:
        """Return the class that ``written`` names (or `OTHER`), or None. Case, spacing and Unicode form are ignored."""
        return self._spellings.get(fold(written))

    def _claim(self, spelling: str, name: str) -> None:
        key = fold(spelling)
        holder = self._spellings.setdefault(key, name)
        if holder != name:
            raise ValueError(f"{spelling!r} names both class {holder!r} and class {name!r}")


def fold(written: str) -> str:
    """Spelling without case, Unicode form, surrounding space and repeated space."""
    return " ".join(unicodedata.normalize("NFKC", written).casefold().split())


class Task(BaseModel):
    """A labelling task: instruction, classes, and which columns hold what.

    Examples
    --------
    >>> task = Task(name="mood", instruction="Judge the mood.", labels={"good": "Pleased.", "bad": "Displeased."})
    >>> task.space.names
    ('good', 'bad')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Short name of the task.")
    instruction: str = Field("", description="One sentence: what is to be decided about each text.")
    labels: tuple[Label, ...] = Field(
        description="The classes, 2 to 1,000: 'name: description', or 'name: {description, aliases, examples}'."
    )
    other: bool = Field(
        False, description=f"Whether {OTHER!r} is a legal final outcome. It is never trained as a class."
    )
    text: tuple[str, ...] = Field(("text",), description="The column, or columns, that hold the text.")
    template: str = Field("", description="How several columns make one text, for instance '{title}: {body}'.")
    id: str = Field("", description="The column that holds each row's id; without one, ids come from the texts.")
    gold: str = Field("", description="The column that holds known labels, used for scoring alone.")

    @field_validator("text", mode="before")
    @classmethod
    def _one_or_more_columns(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("labels", mode="before")
    @classmethod
    def _label_forms(cls, value: object) -> object:
        if isinstance(value, Mapping):
            entries = []
            for name, body in value.items():
                entries.append({"name": name, **body} if isinstance(body, Mapping) else (name, body))
            return [_label_form(entry) for entry in entries]
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [_label_form(entry) for entry in value]
        raise ValueError(f"'labels' is {shorten(value)}; expected a mapping of class names to descriptions; write one")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_labels(self.labels, self.other)
        if not self.text:
            raise ValueError("'text' names no column; expected at least one; write the name of the text column")
        placeholders = template_columns(self.template)
        if self.template and not placeholders:
            raise ValueError(f"'template' is {self.template!r}; expected column names in braces; write '{{title}}'")
        if len(self.text) > 1 and unused(self.text, placeholders) and self.template:
            missing = unused(self.text, placeholders)[0]
            raise ValueError(f"'template' leaves out column {missing!r}; expected all of them; add '{{{missing}}}'")
        return self

    @cached_property
    def space(self) -> LabelSpace:
        """The classes as a `LabelSpace`."""
        return LabelSpace(self.labels, self.other)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the text is made of."""
        return template_columns(self.template) or self.text

    def compose(self, values: Mapping[str, str]) -> str:
        """Make one text of a row's column values."""
        if self.template:
            return re.sub(r"\{([^{}]+)\}", lambda match: values[match[1]], self.template)
        return "\n".join(values[column] for column in self.text)

    @classmethod
    def file_schema(cls) -> dict[str, Any]:
        """JSON schema of task files: as the model's, with the short forms of ``labels`` and ``text`` allowed."""
        schema = cls.model_json_schema()
        label = {"anyOf": [{"$ref": "#/$defs/Label"}, {"type": ["string", "null"]}]}
        schema["$defs"]["Label"]["required"] = []
        labels, text = schema["properties"]["labels"], schema["properties"]["text"]
        labels.pop("items"), labels.pop("type")
        labels["anyOf"] = [
            {"type": "object", "additionalProperties": label, "minProperties": 2, "maxProperties": MAX_LABELS},
            {"type": "array", "items": label, "minItems": 2, "maxItems": MAX_LABELS},
        ]
        text["anyOf"] = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
        text.pop("items"), text.pop("type")
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}

    @classmethod
    def load(cls, path: str | Path) -> Task:
        """Read a task file.

        Raises
        ------
        MissingFileError
            When there is no such file.
        TaskError
            When it is not a valid task, with the reason in one line.
        """
        return load_task(Path(path))


def _label_form(entry: object) -> object:
    """Bring the short forms (a bare name, a (name, description) pair) into the long one."""
    match entry:
        case str():
            return {"name": entry}
        case (str(name), None):
            return {"name": name}
        case (str(name), str(description)):
            return {"name": name, "description": description}
        case Mapping() if len(entry) == 1 and "name" not in entry:
            return _label_form(next(iter(entry.items())))
        case (name, body):
            raise ValueError(f"class {name!r} has {shorten(body)}; expected a description; write one line of text")
        case _:
            return entry


def check_labels(labels: Sequence[Label], other: bool) -> None:
    """Refuse label lists that cannot be told apart or are too few or too many (ValueError)."""
    if len(labels) < 2:
        raise ValueError(f"'labels' has {len(labels)} class(es); expected 2 to {MAX_LABELS:,}; add classes")
    if len(labels) > MAX_LABELS:
        raise ValueError(f"'labels' has {len(labels):,} classes; expected 2 to {MAX_LABELS:,}; split the task")
    seen: dict[str, str] = {}
    for label in labels:
        if not label.name:
            raise ValueError("a class has an empty name; expected every class to have one; name it")
        if "\n" in label.name:
            raise ValueError(f"class {label.name!r} has a line break; expected a name on one line; rename it")
        if fold(label.name) in seen:
            first = seen[fold(label.name)]
            raise ValueError(f"class {label.name!r} repeats class {first!r}; expected each once; rename or remove one")
        seen[fold(label.name)] = label.name
    for label in labels:
        for alias in label.aliases:
            if not alias.strip():
                raise ValueError(f"class {label.name!r} has an empty alias; expected text; remove it")
    if other and (clash := next((seen[fold(name)] for name in (OTHER, *OTHER_ALIASES) if fold(name) in seen), None)):
        raise ValueError(f"class {clash!r} and 'other: true' mean the same; expected one of them; remove the class")
    try:
        LabelSpace(labels, other)
    except ValueError as error:
        raise ValueError(f"{error}; expected each spelling to name one class; remove an alias") from None


def template_columns(template: str) -> tuple[str, ...]:
    """The column names in braces, each once, in order."""
    return tuple(dict.fromkeys(re.findall(r"\{([^{}]+)\}", template)))


def unused(columns: Sequence[str], placeholders: Sequence[str]) -> list[str]:
    """Columns that a template does not use."""
    return [column for column in columns if column not in placeholders]


class _TextLoader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """YAML in which every scalar is text and a repeated key is an error."""


def _scalar(loader: Any, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Hashable, Any]:
    keys: set[Hashable] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise TaskError(f"line {line} has a list or mapping as a key", "text", "write a plain name")
        if key in keys:
            raise TaskError(f"line {line} repeats {key!r}", "each name once", "rename or remove one")
        keys.add(key)
    pairs = ((loader.construct_object(k, deep=True), loader.construct_object(v, deep=True)) for k, v in node.value)
    return dict(pairs)


_TextLoader.yaml_implicit_resolvers = {}
for tag in ("str", "null", "bool", "int", "float", "timestamp", "binary"):
    _TextLoader.add_constructor(f"tag:yaml.org,2002:{tag}", _scalar)
_TextLoader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load_task(path: Path) -> Task:
    """Read and check a task file; see `Task.load`."""
    if not path.exists():
        raise MissingFileError(f"no file {str(path)!r}", "a task file", "'candist init DIR' writes one to start from")
    if path.is_dir():
        raise TaskError(f"{str(path)!r} is a folder", "a task file", f"did you mean {str(path / 'task.yaml')!r}?")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TaskError(f"{path}: byte {error.start} is not UTF-8", "a UTF-8 text file", "save it as UTF-8") from None
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror}", "a readable file", "check its permissions") from None
    try:
        return parse_task(content)
    except TaskError as error:
        raise TaskError(f"{path}: {error.got}", error.expected, error.do) from None


def parse_task(content: str) -> Task:
    """Read a task from YAML text.

    Raises
    ------
    TaskError
        With the first problem found.
    """
    try:
        values = yaml.load(content, Loader=_TextLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        do = "quote a text that holds ': ' or starts with a special sign"
        raise TaskError(f"{where}{problem}", "valid YAML", do) from None
    if values is None:
        raise TaskError("the file is empty", "name, instruction and labels", "'candist init DIR' writes one")
    if not isinstance(values, dict):
        raise TaskError(f"the file holds {shorten(values)}", "'key: value' lines", "'candist init DIR' shows how")
    return build_task(values)


def build_task(values: Mapping[str, Any]) -> Task:
    """Validate a mapping as a task, with our wording of problems (TaskError)."""
    try:
        return Task.model_validate(values)
    except ValidationError as error:
        details = error.errors()
        unknown = next((d["loc"] for d in details if d["type"] == "extra_forbidden"), ())
        if len(unknown) > 1:
            key = str(unknown[-1])
            raise TaskError(f"unknown key {key!r} of a class", "", did_you_mean(key, Label.model_fields)) from None
        raise TaskError(*first_problem(details, {"": list(Task.model_fields)})) from None

"""The command line. Every command is a thin skin over Python functions of the same name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import click
import typer

from candist import __version__
from candist.errors import CandistError, RunFolderError, SettingsError

app = typer.Typer(
    name="candist",
    help="Labels from candidate sets: unlabelled texts and a list of classes in, labels and a small classifier out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

INTERRUPTED = 130

TaskFile = Annotated[Path, typer.Argument(metavar="TASK", help="The task file (YAML).")]
TextsFile = Annotated[
    str, typer.Argument(metavar="TEXTS", help="CSV, TSV, JSONL, Parquet or plain lines; - is standard input.")
]
Format = Annotated[
    str, typer.Option("--format", help="csv, tsv, jsonl, parquet or lines, where the file's name does not tell.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no summary.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is at the output's place.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; 'candist settings' lists them. Repeatable."),
]


def version_asked(asked: bool) -> None:
    """Print the version and leave."""
    if asked:
        print(f"candist {__version__}")
        raise typer.Exit


@app.callback()
def candist(
    version: Annotated[
        bool, typer.Option("--version", callback=version_asked, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Labels from candidate sets: unlabelled texts and a list of classes in, labels and a small classifier out."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write task.yaml into.")],
) -> None:
    """Write a commented task file to start from."""
    from importlib.resources import files

    from candist.data.files import write_text

    path = folder / "task.yaml"
    if path.exists():
        raise RunFolderError(f"{str(path)!r} is there already", "a new file", "choose another folder")
    write_text(path, files("candist.cli").joinpath("starter.yaml").read_text(encoding="utf-8"))
    print(f"wrote {path}: put your classes into it, then: candist run {path} texts.csv --out runs/first")


@app.command()
def run(
    task: TaskFile,
    texts: TextsFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="The run folder; a stopped run there goes on.")],
    teacher: Annotated[str, typer.Option("--teacher", help="Who names candidates: offline.")] = "offline",
    candidates: Annotated[
        list[str] | None,
        typer.Option(
            "--candidates",
            metavar="NAME",
            help="Answers on hand instead of a teacher: a column, or answers.jsonl[:field]. Repeatable.",
        ),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="A sentence-transformers model: a Hub id or a folder.")
    ] = None,
    long: Annotated[
        Literal["cut", "mean"] | None, typer.Option("--long", help="Texts longer than the encoder reads.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of all that is random.")] = None,
    assignments: Assignments = None,
    format: Format = "",
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Label texts and train a classifier: labels, model and report go to the run folder."""
    from candist.cli.progress import shown
    from candist.pipeline import run as run_pipeline
    from candist.report.terminal import summary
    from candist.task import Task

    if teacher != "offline":
        raise SettingsError(f"unknown teacher {teacher!r}", "offline", "or bring answers with --candidates")
    flags = {"encoder": encoder, "long": long, "seed": seed}
    settings = settings_of([f"{key}={value}" for key, value in flags.items() if value is not None], assignments)
    loaded = Task.load(task)
    try:
        with shown(quiet) as progress:
            result = run_pipeline(
                loaded,
                texts,
                out,
                candidates=candidates or (),
                settings=settings,
                format=format,
                force=force,
                progress=progress,
            )
    except KeyboardInterrupt:
        print(f"stopped; give the same command again to go on in {out}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if not quiet:
        print(summary(result.facts))
        print(f"\nlabels  {out / 'labels.csv'}  and .parquet\nreport  {out / 'report.html'}")
        print(f"model   {out / 'model'}  (candist label {out / 'model'} new.csv)")


@app.command()
def label(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The model folder of a run.")],
    texts: TextsFile,
    out: Annotated[
        str, typer.Option("--out", "-o", help="A .csv or .parquet file, or - for standard output; <TEXTS>.labels.csv.")
    ] = "",
    assignments: Assignments = None,
    format: Format = "",
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Label new texts with a trained student."""
    from candist.cli.progress import shown
    from candist.data.tables import write_stream
    from candist.pipeline import label as label_texts

    settings = settings_of([], assignments)
    target = out or f"{'stdin' if texts == '-' else Path(texts).stem}.labels.csv"
    if target != "-" and Path(target).exists() and not force:
        raise RunFolderError(f"{target!r} is there already", "a new file", "choose another --out, or --force")
    with shown(quiet) as progress:
        predictions = label_texts(model, texts, format=format, settings=settings, progress=progress)
        counts = write_stream(target, predictions)
    if not quiet and target != "-":
        print(
            f"{counts.rows:,} rows: {counts.labelled:,} labelled, {counts.review:,} for review, "
            f"{counts.rows - counts.labelled:,} without a usable text; wrote {target}"
        )


@app.command()
def report(run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]) -> None:
    """Rebuild the report of a run from its files."""
    from candist.pipeline.stages import restore, write_report
    from candist.report.terminal import summary

    result = restore(run)
    write_report(run, result.facts)
    print(summary(result.facts))
    print(f"\nreport  {run / 'report.html'}")


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="A run folder.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Another run folder.")],
    limit: Annotated[int, typer.Option("--limit", min=0, help="Most changed rows to show.")] = 20,
) -> None:
    """Show the rows whose label differs between two runs."""
    from candist.data.tables import read_labels
    from candist.report.terminal import changes

    print(changes(read_labels(before), read_labels(after), limit))


@app.command()
def settings() -> None:
    """List all settings with their defaults."""
    from candist.config import describe
    from candist.pipeline.settings import Settings

    rows = list(describe(Settings))
    width, default_width = max(len(path) for path, _, _ in rows), max(len(default) for _, default, _ in rows)
    for path, default, meaning in rows:
        print(f"{path:<{width}}  {default:<{default_width}}  {meaning}")


@app.command()
def schema() -> None:
    """Print the JSON schema of task files, for editors."""
    import json

    from candist.task import Task

    print(json.dumps(Task.file_schema(), indent=2, ensure_ascii=False))


def settings_of(flags: list[str], assignments: list[str] | None) -> Any:
    """Settings with flags and ``--set`` assignments applied, the latter last."""
    from candist.config import override
    from candist.pipeline.settings import Settings

    return override(Settings(), [*flags, *(assignments or [])])


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command; what the user did wrong becomes one line on standard error and exit code 2."""
    try:
        code = app(arguments, standalone_mode=False)
    except CandistError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except click.ClickException as error:
        print(f"error: {' '.join(error.format_message().split())}; 'candist --help' shows how", file=sys.stderr)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print("stopped", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: nobody is left to tell, and that is no failure of ours.
        sys.stderr.close()
        code = 0
    sys.exit(code or 0)

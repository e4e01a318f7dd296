"""``dance-ondevice labels``: imports labels of stored samples, and undoes an import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dance_ondevice.daemon.cli import CommandGroup, WorkFailed, config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands.access import ask, daemon_runs, index, model_classes, no_daemon, target
from dance_ondevice.daemon.commands.samples.live_model import live_model
from dance_ondevice.daemon.terminal import print_json, print_table
from dance_ondevice.label_formats.reader import FORMATS

if TYPE_CHECKING:
    from dance_ondevice.daemon.curation.label_plan import Plan, Planned, Spool
    from dance_ondevice.daemon.system.state import StatePaths
    from dance_ondevice.label_formats.class_map import ClassMap

_TIMEOUT = 60.0
#: The most classes of one label in a table for people.
_SHOWN_CLASSES = 4


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result, or in a dry run the plan, for one label.

    Attributes:
        file: Name of the mask, or of the image in an export.
        sample: Id of the sample that the label belongs to.
        action: "new", "replaces", "unchanged", "passed over" or "refused".
        before: Source of the label that it replaces.
        error: Why it was refused.
        note: Why it was passed over.
        labelled: Share of the pixels that get a class.
        classes: Shares of the pixels by class name.
    """

    file: str
    sample: str | None
    action: str
    before: str | None
    error: str | None
    note: str | None
    labelled: float
    classes: dict[str, float]


@click.group(cls=CommandGroup)
def labels() -> None:
    """Bring labels to stored samples, and take them back."""


@labels.command(name="import")
@click.argument("path", metavar="PATH", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["auto", "png", *FORMATS]),
    default="auto",
    show_default=True,
    help=f"PNG masks, {', '.join(each.title for each in FORMATS.values())}.",
)
@click.option(
    "--class-map",
    "map_file",
    metavar="FILE.toml",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='Table [classes]: name, id or "r,g,b" in the labels = class name, id or "ignore".',
)
@click.option(
    "--camera",
    metavar="NAME",
    help="Match files to this camera's samples by the last number in their name, which must be the sequence "
    "number: the first frame that was sent has 0.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done with each file; write nothing.")
@click.option(
    "--trust-ids", is_flag=True, help="Take the ids of masks as they are, though they seem shifted."
)
@config_option
@state_dir_option
@json_option
@click.pass_context
def import_(
    ctx: click.Context,
    *,
    path: Path,
    kind: str,
    map_file: Path | None,
    camera: str | None,
    dry_run: bool,
    trust_ids: bool,
    config_path: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Send labels to the daemon: masks, or what a labelling tool exported, as a file, a folder or a zip.

    A label belongs to the sample whose id is the file's name, or its image's, without the ending. Masks are
    PNGs of class ids, 255 where no class is known, or of colours with labelmap.txt or label_colors.txt beside
    them, as large as the frame was when it was captured or as its stored image. Drawings become masks; what
    nobody drew on is ignored, unless the class map has a `background`, and an image that nobody drew on is
    passed over. An unknown class name, or ids that seem to be one off, stop the import before anything is
    stored. `labels undo` takes the import back.
    """
    paths = target(config_path, state_dir)
    if not dry_run:
        _check_daemon(paths)
    classes = model_classes(paths, config_path)
    with _planned(
        paths, path, kind=kind, map_file=map_file, camera=camera, classes=classes, trust_ids=trust_ids
    ) as (plan, spool):
        written = not dry_run and plan.stop is None
        refusals = _send(paths, plan.labels, spool) if written else {}
    results = [_result(label, refusals.get(number)) for number, label in enumerate(plan.labels)]
    if as_json:
        print_json(_summary(plan, results, dry_run=dry_run))
    elif written or dry_run:
        _print(plan, results, dry_run=dry_run)
    if plan.stop is not None:
        raise WorkFailed(plan.stop)
    counts = Counter(result.action for result in results)
    if counts["refused"]:
        if plan.hint:
            click.echo(plan.hint, err=True)
        ctx.exit(1)
    if not counts["new"] + counts["replaces"] + counts["unchanged"]:
        passed = f": {counts['passed over']} images are listed, nothing is drawn on any" if results else ""
        raise WorkFailed(f"{path} lists no labelled image{passed}")


@labels.command()
@config_option
@state_dir_option
@json_option
def undo(*, config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Take the last import back: each sample gets the label that it had before, or none.

    A sample that has got another label since keeps that. The labels before are kept until the next import.
    """
    paths = target(config_path, state_dir)
    back = removed = 0
    left: list[Sequence[str]] = []
    after = ""
    while True:
        answer = ask(paths, "undo_labels", timeout=_TIMEOUT, after=after)
        back, removed, left = back + answer["back"], removed + answer["removed"], left + answer["left"]
        if answer["last"] is None:
            break
        after = answer["last"]
    if as_json:
        print_json({"back": back, "removed": removed, "left": left})
    elif back or removed or left:
        click.echo(f"{back} labels put back, {removed} removed, {len(left)} left as they are")
        if left:
            print_table("Left as they are", ("sample", "why"), left)
    if left:
        raise WorkFailed(f"{len(left)} labels of the import could not be taken back")
    if not back + removed:
        raise WorkFailed("there is no import to take back")


def _check_daemon(paths: StatePaths) -> None:
    if not daemon_runs(paths):
        raise WorkFailed(no_daemon(paths))


@contextmanager
def _planned(
    paths: StatePaths,
    path: Path,
    *,
    kind: str,
    map_file: Path | None,
    camera: str | None,
    classes: tuple[str, ...],
    trust_ids: bool,
) -> Iterator[tuple[Plan, Spool]]:
    """The plan of the import; its labels are in the spool.

    Raises:
        WorkFailed: There is nothing to import, or it cannot be read.
    """
    from dance_ondevice.daemon.curation.label_files import NothingFound, sort_out
    from dance_ondevice.daemon.curation.label_plan import Spool
    from dance_ondevice.daemon.curation.labels import make_plan
    from dance_ondevice.daemon.curation.targets import Targets
    from dance_ondevice.label_formats.class_map import ClassMapError
    from dance_ondevice.label_formats.regions import FormatError
    from dance_ondevice.label_formats.tree import Tree

    with Spool() as spool:
        try:
            with Tree(path) as tree, index(paths) as database:
                plan = make_plan(
                    sort_out(tree, path, kind),
                    kind="auto" if kind == "png" else kind,
                    class_map=_class_map(map_file, classes),
                    classes=classes,
                    targets=Targets(database, camera),
                    spool=spool,
                    root=paths.root,
                    live=_live_mask(paths),
                    trust_ids=trust_ids,
                )
        except (NothingFound, ClassMapError, FormatError, OSError) as error:
            raise WorkFailed(str(error)) from error
        yield plan, spool


def _class_map(file: Path | None, classes: tuple[str, ...]) -> ClassMap:
    from dance_ondevice.label_formats.class_map import ClassMap, ClassMapError, read_class_map

    if file is None:
        return ClassMap()
    try:
        return read_class_map(file.read_text("utf-8-sig"), classes)
    except (OSError, UnicodeDecodeError, ClassMapError) as error:
        raise ClassMapError(f"{file}: {error}") from error


def _live_mask(paths: StatePaths) -> Callable[[Path], Any] | None:
    ask_model = live_model(paths)
    if ask_model is None:
        return None

    def mask(image: Path) -> Any:
        seen = ask_model(image)
        return None if seen is None else seen.mask

    return mask


def _send(paths: StatePaths, planned: Sequence[Planned], spool: Spool) -> dict[int, str]:
    """Have the daemon store the labels; returns, by the label's number, why some were refused."""
    import secrets

    from dance_ondevice.daemon.control.labels import BYTES_AT_ONCE

    name = secrets.token_hex(8)
    refused: dict[int, str] = {}
    for batch in _batches(planned):
        size = sum(png[1] for number in batch if (png := planned[number].png) is not None)
        if size > BYTES_AT_ONCE:  # a single label that is too large
            refused[batch[0]] = (
                f"as a PNG it takes {size} bytes, at most {BYTES_AT_ONCE} can be taken: a mask of so many "
                "small regions is no drawing"
            )
            continue
        request = [_encoded(planned[number], spool) for number in batch]
        answer = ask(paths, "import_labels", timeout=_TIMEOUT, **{"import": name, "labels": request})
        refused |= {number: error for number, error in zip(batch, answer["errors"], strict=True) if error}
    return refused


def _batches(planned: Sequence[Planned]) -> Iterable[list[int]]:
    """Numbers of the labels to write, in batches that fit into one request."""
    from dance_ondevice.daemon.control.labels import BYTES_AT_ONCE, MOST_AT_ONCE

    batch, size = list[int](), 0
    for number, label in enumerate(planned):
        if label.png is None:
            continue
        if batch and (len(batch) == MOST_AT_ONCE or size + label.png[1] > BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(number)
        size += label.png[1]
    if batch:
        yield batch


def _encoded(label: Planned, spool: Spool) -> dict[str, str | None]:
    import base64

    assert label.png is not None
    return {"sample": label.sample, "png": base64.b64encode(spool.get(label.png)).decode()}


def _result(label: Planned, refused: str | None) -> Result:
    action = label.action if refused is None else "refused"
    why = label.why if refused is None else refused
    return Result(
        file=label.file,
        sample=label.sample,
        action=action,
        before=label.before,
        error=why if action == "refused" else None,
        note=why if action == "passed over" else None,
        labelled=label.labelled,
        classes=dict(label.classes),
    )


def _summary(plan: Plan, results: Sequence[Result], *, dry_run: bool) -> dict[str, object]:
    counts = Counter(result.action for result in results)
    written = 0 if plan.stop is not None else counts["new"] + counts["replaces"]
    return {
        "dry_run": dry_run,
        "imported": 0 if dry_run else written,
        "would_import": written if dry_run else 0,
        "new": counts["new"],
        "replaced": counts["replaces"],
        "unchanged": counts["unchanged"],
        "passed_over": counts["passed over"],
        "refused": counts["refused"],
        "stopped": plan.stop,
        "results": results,
        "notes": plan.notes,
    }


def _print(plan: Plan, results: Sequence[Result], *, dry_run: bool) -> None:
    counts = Counter(result.action for result in results)
    written = counts["new"] + counts["replaces"]
    would = "would be " if dry_run else ""
    click.echo(
        f"{written} {would}imported, {counts['refused']} refused; {counts['new']} new, {counts['replaces']} "
        f"in place of another label, {counts['unchanged']} unchanged, {counts['passed over']} passed over"
    )
    rows = [(r.file, r.action, r.before, f"{r.labelled:.1%}", _classes(r)) for r in results if not r.error]
    if rows:
        print_table("Labels", ("file", "what", "in place of", "labelled", "classes"), rows)
    if counts["refused"]:
        print_table("Refused", ("file", "why"), [(r.file, r.error) for r in results if r.error])
    for note in plan.notes:
        click.echo(note)


def _classes(result: Result) -> str | None:
    if result.note:
        return result.note
    ordered = list(result.classes.items())
    more = f", {len(ordered) - _SHOWN_CLASSES} more" if len(ordered) > _SHOWN_CLASSES else ""
    return ", ".join(f"{name} {share:.1%}" for name, share in ordered[:_SHOWN_CLASSES]) + more

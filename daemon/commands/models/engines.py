"""``dance-ondevice models engines``: what each engine takes for a version on this board."""

from __future__ import annotations

from pathlib import Path

import click

from dance_ondevice.daemon.cli import WorkFailed, config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands.access import target
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.terminal import print_json, print_table
from dance_ondevice.documents import DocumentError, decode


@click.command()
@click.argument("version", required=False)
@config_option
@state_dir_option
@json_option
def engines(version: str | None, config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Show the CPU time of a mask by engine, measured on this board when a version was loaded or trained."""
    from dance_ondevice.runtime.engine_table import TABLE_FILE, EngineTable, board, order

    paths = target(config_path, state_dir)
    name = version or _live(paths)
    try:
        table = decode((paths.models / name / TABLE_FILE).read_bytes(), EngineTable)
    except FileNotFoundError as error:
        raise WorkFailed(
            f"no engines were measured for {name}: that is done when the daemon loads it with inference on, "
            "and inference.engine is not torch"
        ) from error
    except (OSError, DocumentError) as error:
        raise WorkFailed(f"the table of {name} cannot be read: {error}") from error
    first, here = order(table, "auto")[0], table.board == board()
    if as_json:
        print_json(
            {
                "version": name,
                "board": table.board,
                "this_board": here,
                "size": list(table.size),
                "auto": first,
                "engines": [
                    {
                        "engine": row.engine,
                        "cpu_ms": row.cpu_ms,
                        "agreement": row.agreement,
                        "usable": row.usable,
                        "note": row.note,
                    }
                    for row in table.engines
                ],
            }
        )
        return
    print_table(
        f"Engines of {name}, frames of {table.size[1]}x{table.size[0]}"
        + ("" if here else ", measured with other packages or on another board"),
        ("engine", "CPU ms", "same pixels", "note"),
        [
            (
                row.engine,
                "-" if row.cpu_ms is None else f"{row.cpu_ms:.1f}",
                "-" if row.agreement is None else f"{row.agreement:.2%}",
                row.note or ("auto takes it" if row.engine == first else ""),
            )
            for row in table.engines
        ],
    )


def _live(paths: StatePaths) -> str:
    try:
        return str(decode(paths.live_file.read_bytes(), dict[str, object])["version"])
    except (OSError, DocumentError, KeyError) as error:
        raise WorkFailed(f"no version is live in {paths.root}: start the daemon first") from error

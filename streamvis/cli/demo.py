"""`streamvis demo`: a real clip of real people, found and followed by one command."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from streamvis.cli.output import INTERRUPTED, put, put_text, say

if TYPE_CHECKING:
    from streamvis.runtime.output import OnUsed

OUT = Path("demo-out")


def program() -> str:
    """Return how this program is called: by its path where the shell does not find it."""
    found = Path(sys.argv[0])
    return "streamvis" if shutil.which("streamvis") or found.name != "streamvis" else str(found)


def demo(
    out: Annotated[Path, Option(help="Where the results go.")] = OUT,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace the run in --out; demo-out always is.")
    ] = False,
) -> None:
    """Find, follow and report the people in a real clip: video, events and a contact sheet."""
    from streamvis import config
    from streamvis.cli.run import start
    from streamvis.demo_clip import contact_sheet, find_clip
    from streamvis.runners.summary_tables import tables
    from streamvis.runtime.output import locked

    pipeline = config.without_feed(config.default_pipeline())
    pipeline = config.with_record(pipeline, config.Record())
    on_used: OnUsed = "overwrite" if overwrite or out == OUT else "refuse"
    summary = start(pipeline, None, [find_clip(say)], out, on_used=on_used)
    put_text(tables(summary))
    video = out / "annotated.mp4"
    if video.exists():
        sheet = out / "contact-sheet.png"
        with locked(out):
            contact_sheet(video, sheet)
        put(f"annotated video  {video}\ncontact sheet    {sheet}")
    put(f"event log        {out / 'events.db'}\ntracks           {out / 'tracks.txt'}")
    put(f"look back        {program()} web {shlex.quote(str(out))}")
    if summary.interrupted == "SIGINT":
        raise typer.Exit(INTERRUPTED)

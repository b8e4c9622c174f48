"""Publishes to a disk that fills up, and prints what was heard and what is logged, as JSON.

    python full_disk.py DIR [kill | keep]

DIR is a small file system of its own. With `kill` the publisher is killed while the disk is full,
and a successor goes on from its last answer. With `keep` the log has a retention, and events of an
earlier hour.
"""

import json
import os
import signal
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

from factories import source
from published import packet_of, site_at

from streamvis.config import Publish
from streamvis.events import disk, kept_log
from streamvis.events.client import Subscription
from streamvis.events.log import Cursor, LogReader, LogWriter, Row
from streamvis.stages import event_codec
from streamvis.stages.publish.stage import PublishStage

PHASE = 40  # frames in each: before the disk is full, meanwhile, and afterwards
CAMERA = source("cam1", fps=25, live=True)


def ids_of(seq: int) -> tuple[list[int], list[int]]:
    """A person comes with every fifth frame, and leaves four frames later; another one stays."""
    number, age = divmod(seq, 5)
    return ([1, number + 2], []) if age < 4 else ([1], [number + 2])


def publish(stage: PublishStage, seqs: range) -> None:
    for seq in seqs:
        ids, ended = ids_of(seq)
        stage([packet_of("cam1", seq, ids=ids, ended=ended)])
        time.sleep(0.01)


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return


def opened(out: Path, state: bytes | None, keep_days: float | None = None) -> PublishStage:
    address = f"ipc://{out.parent}/feed"
    config = Publish(bind=address, update_every_s=0, replay=False, keep_days=keep_days)
    stage = PublishStage(config, site_at(out))
    stage.begin(CAMERA, state)
    return stage


def until_killed(out: Path, answers: int) -> None:
    """Publish until the disk is full, answer once more, and die before the next answer."""
    stage = opened(out, None)
    publish(stage, range(PHASE))
    fill(out.parent)
    publish(stage, range(PHASE, 2 * PHASE - 5))
    os.write(answers, stage.state("cam1"))
    publish(stage, range(2 * PHASE - 5, 2 * PHASE))
    os.kill(os.getpid(), signal.SIGKILL)


def killed(out: Path) -> PublishStage:
    """Have a publisher killed, and return its successor."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        until_killed(out, writing)
    os.close(writing)
    answer = b"".join(iter(lambda: os.read(reading, 65536), b""))
    os.wait()
    stage = opened(out, answer)
    publish(stage, range(2 * PHASE - 5, 2 * PHASE))
    return stage


def log_of_yesterday(out: Path) -> None:
    """Write a log of 4 MB."""
    out.mkdir()
    yesterday = time.time() - 86400
    with closing(LogWriter(out / "events.db", lambda: yesterday)) as log:
        rows = [Row("old", n, n + 1, "track.update", 0, b'{"x":"%1000d"}' % n) for n in range(4000)]
        log.commit(rows, [Cursor("old", "", 0, 4000, "eof", b"")])


def undisturbed(out: Path, listen: threading.Thread, keep_days: float | None) -> PublishStage:
    stage = opened(out, None, keep_days)
    listen.start()
    time.sleep(0.5)  # until it listens
    publish(stage, range(PHASE))
    fill(out.parent)
    publish(stage, range(PHASE, 2 * PHASE))
    return stage


def main(folder: Path, kill: bool, keep: bool) -> None:
    kept_log.RETRY_S, disk.CHECK_S = 0.05, 0.05
    out, heard = folder / "out", []
    subscription = Subscription(f"ipc://{folder}/feed", event_codec(), until_ended=True)
    listen = threading.Thread(target=lambda: heard.extend(subscription))
    if keep:
        log_of_yesterday(out)
    stage = killed(out) if kill else undisturbed(out, listen, 100 if keep else None)
    (folder / "filler").unlink()
    time.sleep(0.1)
    publish(stage, range(2 * PHASE, 3 * PHASE))
    stage.finish("cam1", "drained")
    stage.close()
    if not kill:
        listen.join()
    with LogReader(out / "events.db") as log:
        logged = [json.loads(row.payload) for row in log.events() if row.source != "old"]
        old = len(list(log.events("old")))
    told = [
        {"source": e.source, "offset": e.offset, "type": e.type, "unlogged": e.unlogged is True}
        for e in heard
        if e.family != "hb"
    ]
    files = sorted(path.name for path in out.iterdir())
    json.dump({"logged": logged, "heard": told, "files": files, "old": old}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), "kill" in sys.argv, "keep" in sys.argv)

"""Action clips from a CSV, from folders by class, or from UCF-101 and HMDB-51, and their splits.

A source is the video that a clip was cut from. Clips of one source look alike, so a split never has
clips of a source in both training and test. A clip may be of one person alone, along a track.
"""

import csv
import io
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamvis.errors import DataError
from streamvis.parsing import read_text
from streamvis.sources.listing import entries, videos_in

UCF_LISTS = "ucfTrainTestlist"
HMDB_LISTS = "testTrainMulti_7030_splits"
UCF_NAME = re.compile(r"v_(?P<label>\w+)_g(?P<group>\d+)_c\d+")
HMDB_TAIL = re.compile(r"_[a-z]_(nm|cm)_np\d+_[a-z]{2}_[a-z]{3}_\d+$")  # attributes of the clip
TRAIN, TEST = 1, 2  # in HMDB-51's lists
NEEDED = ("path", "label", "source")


@dataclass(frozen=True)
class Clip:
    """One action: its file and time, its label, and the video that it was cut from."""

    path: Path
    label: str
    source: str
    start_s: float = 0.0
    end_s: float = math.inf
    tracks: Path | None = None  # the tracks of its video, as MOTChallenge has results
    track: int = 0  # the one among them that is cropped along; 0: whole frames


Split = tuple[list[int], list[int]]  # indexes of clips to train on, to test on


def read_clips(data: Path) -> list[Clip]:
    """Read the clips of a CSV, of a folder with `clips.csv`, or of a folder of classes."""
    if data.is_file():
        clips = _from_csv(data)
    elif (data / "clips.csv").is_file():
        clips = _from_csv(data / "clips.csv")
    elif data.is_dir():
        clips = _from_folders(_classes(data))
    else:
        raise DataError(f"{data} is neither a CSV of clips nor a folder with a folder per action")
    if len({clip.label for clip in clips}) < 2:
        found = sorted({clip.label for clip in clips})
        raise DataError(
            f"{data} has {len(clips)} clips of {', '.join(found) or 'no action'}; expected clips "
            "of at least two actions, each in a folder named after it"
        )
    return clips


def check_there(data: Path, clips: Sequence[Clip]) -> None:
    """Raise DataError when a listed clip or its tracks do not exist, before any work is done."""
    if absent := [clip.path for clip in clips if not clip.path.is_file()]:
        raise DataError(
            f"{data} lists {len(clips)} clips, but {len(absent)} of them do not exist; the first "
            f"is {absent[0]}"
        )
    tracks = {clip.tracks for clip in clips if clip.tracks is not None}
    if lost := sorted(path for path in tracks if not path.is_file()):
        raise DataError(
            f"{data} names {len(tracks)} files of tracks, but {len(lost)} of them do not exist; "
            f"the first is {lost[0]}. Make them with: streamvis track-clips"
        )


def _from_csv(path: Path) -> list[Clip]:
    text = read_text(path, DataError)
    try:
        rows = list(csv.DictReader(io.StringIO(text)))
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from None
    clips = []
    for line, row in enumerate(rows, 2):
        if lacking := [name for name in NEEDED if not row.get(name)]:
            raise DataError(
                f"{path}, line {line}: {', '.join(lacking)} is empty or absent; expected the "
                "columns path,label,source and optionally start,end in seconds"
            )
        start, end = _seconds(path, line, row, "start", 0.0), _seconds(path, line, row, "end")
        if not start < end:
            raise DataError(
                f"{path}, line {line}: start is {start:g} s and end is {end:g} s; expected start "
                "before end"
            )
        place = (path.parent / row["path"], row["label"], row["source"], start, end)
        clips.append(Clip(*place, *_track(path, line, row)))
    return clips


def _track(path: Path, line: int, row: dict[str, str]) -> tuple[Path | None, int]:
    """Return the file of tracks and the track of a row; None and 0 for whole frames."""
    tracks, track = row.get("tracks") or "", row.get("track") or ""
    if not tracks and not track:
        return None, 0
    if not (tracks and track.isascii() and track.isdecimal() and int(track)):
        raise DataError(
            f"{path}, line {line}: tracks is '{tracks}' and track is '{track}'; expected a file "
            "of tracks and the number, from 1, of one of them, or neither"
        )
    return path.parent / tracks, int(track)


def _seconds(
    path: Path, line: int, row: dict[str, str], key: str, default: float = math.inf
) -> float:
    text = row.get(key)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise DataError(f"{path}, line {line}: {key} is '{text}', expected seconds")
    return value


def _classes(data: Path) -> Path:
    """Return the folder of classes, which UCF-101 and HMDB-51 keep beside their split lists."""
    inside = [data / name for name in ("UCF-101", "hmdb51_org", "videos") if (data / name).is_dir()]
    return inside[0] if inside else data


def _from_folders(data: Path) -> list[Clip]:
    folders = sorted(path for path in entries(data) if path.is_dir())
    return [
        Clip(path, folder.name, source_of(path, folder.name))
        for folder in folders
        for path in sorted(videos_in(entries(folder)))
    ]


def source_of(path: Path, label: str) -> str:
    """Return the source in a file name of UCF-101 or HMDB-51; of others the whole name."""
    if match := UCF_NAME.fullmatch(path.stem):
        return f"{match['label']} g{match['group']}"
    if HMDB_TAIL.search(path.stem):
        return HMDB_TAIL.sub("", path.stem).removesuffix(f"_{label}")
    return path.stem


def published_split(data: Path, clips: Sequence[Clip], number: int) -> Split:
    """Return split `number` (1 to 3) of the published lists of UCF-101 or HMDB-51."""
    if (data / UCF_LISTS).is_dir():
        sides = [_ucf_list(data / UCF_LISTS / f"{s}list{number:02}.txt") for s in ("train", "test")]
        names = [f"{clip.path.parent.name}/{clip.path.name}" for clip in clips]
    elif (data / HMDB_LISTS).is_dir():
        sides = _hmdb_lists(data / HMDB_LISTS, number)
        names = [f"{clip.label}/{clip.path.name}" for clip in clips]
    else:
        raise DataError(
            f"{data} has no published splits: expected {UCF_LISTS}/ or {HMDB_LISTS}/ in it"
        )
    where = {name: i for i, name in enumerate(names)}
    for name in [name for side in sides for name in side if name not in where][:1]:
        raise DataError(f"{data}: split {number} lists {name}, which does not exist")
    train, test = ([where[name] for name in sorted(side)] for side in sides)
    return train, test


def _lines(path: Path) -> list[list[str]]:
    if not path.is_file():
        raise DataError(f"{path} does not exist; published splits are 1, 2 and 3")
    return [words for line in read_text(path, DataError).split("\n") if (words := line.split())]


def _ucf_list(path: Path) -> set[str]:
    return {words[0] for words in _lines(path)}


def _hmdb_lists(folder: Path, number: int) -> list[set[str]]:
    ending = f"_test_split{number}.txt"
    sides: list[set[str]] = [set(), set()]
    lists = sorted(path for path in entries(folder) if path.name.endswith(ending))
    if not lists:
        raise DataError(f"{folder} has no *{ending}; published splits are 1, 2 and 3")
    for path in lists:
        for words in _lines(path):
            if len(words) == 2 and words[1] in (str(TRAIN), str(TEST)):
                sides[int(words[1]) - 1].add(f"{path.name.removesuffix(ending)}/{words[0]}")
    return sides


def source_folds(clips: Sequence[Clip], count: int, seed: int = 0) -> list[Split]:
    """Return `count` splits that test each clip once and never divide a source.

    Sources are assigned from the largest to the smallest, each to the fold that has the fewest
    clips of its labels, so that folds have similar shares of each label.
    """
    by_source: defaultdict[str, list[int]] = defaultdict(list)
    for i, clip in enumerate(clips):
        by_source[clip.source].append(i)
    if not 2 <= count <= len(by_source):
        raise DataError(
            f"{count} folds of {len(by_source)} sources; expected 2 to {len(by_source)} folds"
        )
    order = list(np.random.default_rng(seed).permutation(sorted(by_source)))
    order.sort(key=lambda source: -len(by_source[source]))
    folds: list[list[int]] = [[] for _ in range(count)]
    tallies: list[Counter[str]] = [Counter() for _ in range(count)]
    for source in order:
        labels = Counter(clips[i].label for i in by_source[source])

        def overlap(k: int, labels: Counter[str] = labels) -> tuple[int, int]:
            return sum(n * tallies[k][label] for label, n in labels.items()), len(folds[k])

        chosen = min(range(count), key=overlap)
        folds[chosen] += by_source[source]
        tallies[chosen] += labels
    every = set(range(len(clips)))
    return [(sorted(every.difference(fold)), sorted(fold)) for fold in folds]

"""Every kind of file through `run`: what a stage receives is what was drawn into the pictures.

The films are written here, and so are the expected values. The rules that containers impose are
stated once, in `CLOCKS` and `expected`; there are no other exceptions.
"""

import json
import shutil
import subprocess
import sys
from fractions import Fraction
from itertools import cycle, product

import looking
import pytest
from films import HEIGHT, REORDERED, SOUND, WIDTH, Film, write
from looking import Seen

from streamvis.config import MaskRcnn, Pipeline, Placement, StageSpec, WorkerSpec
from streamvis.runtime import inline, launch
from streamvis.sources.spec import SourceSpec

RATES = ("1", "7", "24000/1001", "25", "30000/1001", "60", "variable")
MPEG_RATES = ("24000/1001", "25", "30000/1001", "60")
CODED_RATES = {  # MPEG-1 and 2 have a list of rates; players show a GIF of over 50 at 10
    "mpeg1": MPEG_RATES,
    "mpeg2": MPEG_RATES,
    "gif": RATES[:-2],
}
AS_GIVEN = {"avoid_negative_ts": "disabled"}
LATE = [(5000, {}), (95_443_600, {})]  # the 33 bits of MPEG-TS overflow after 95 443.7 s
NEGATIVE = [(-400, AS_GIVEN), (-400, {"avoid_negative_ts": "make_zero"})]
STARTS = {"mp4": LATE, "mov": LATE, "nut": LATE, "mkv": LATE + NEGATIVE, "ts": LATE + NEGATIVE}
CODECS = {
    "mp4": ("h264", "hevc", "mpeg4", "mpeg2", "vp9", "av1", "mjpeg", "png"),
    "mov": ("h264", "hevc", "mpeg4", "mjpeg", "prores", "png"),
    "mkv": ("h264", "hevc", "mpeg4", "mpeg2", "vp8", "vp9", "av1", "mjpeg", "msmpeg4", "ffv1"),
    "webm": ("vp8", "vp9", "av1"),
    "avi": ("h264", "mpeg4", "mpeg2", "vp8", "mjpeg", "msmpeg4", "ffv1"),
    "ts": ("h264", "hevc", "mpeg4", "mpeg1", "mpeg2"),
    "mpeg": ("h264", "hevc", "mpeg1", "mpeg2"),
    "flv": ("h264", "hevc", "vp9", "av1", "flv1"),
    "asf": ("h264", "mpeg4", "msmpeg4"),
    "nut": ("h264", "mpeg4", "mjpeg"),
    "3gp": ("h264", "mpeg4"),
    "gif": ("gif",),
    "ivf": ("vp8", "vp9", "av1"),
    "h264": ("h264",),
    "hevc": ("hevc",),
    "m4v": ("mpeg4",),
    "mjpeg": ("mjpeg",),
    "obu": ("av1",),
}
# what can be off by more than a millisecond: the container's clock ticks in 1/100 s
CLOCKS = {"gif": 0.005}
# bare streams hold no rate; 25 is FFmpeg's
NO_RATE = ("mjpeg", "obu")
# a variable rate cannot be told from one stamp for many pictures, or from none
NO_VARIABLE = ("mpeg", "h264", "hevc", "m4v", "mjpeg", "obu", "gif")
# where stamps are those of decoding, pictures follow each other as packets did
BY_DECODING = ("avi", "asf")
ONE_SOUND = [(0, 0), (1, 0), (0, 1)]  # sound streams before the video and after it
STREAMS = {"flv": ONE_SOUND, "3gp": ONE_SOUND} | {c: [(0, 0)] for c in CODECS if c not in SOUND}
TURNS = tuple((d, h, v) for d in (0, 90, 180, -90) for h, v in ((False, False), (True, False)))


def films() -> list[Film]:
    """Container × codec × order × rate, while the streams go round; then what is rarer."""
    found = []
    for container, codecs in CODECS.items():
        streams = cycle(STREAMS.get(container, [*ONE_SOUND, (2, 0), (1, 1)]))
        found += [
            Film(container, codec, reorder, fps, *next(streams))
            for codec, fps in product(codecs, RATES)
            if not (fps == "variable" and container in NO_VARIABLE)
            and fps in CODED_RATES.get(codec, RATES)
            for reorder in ((False, True) if codec in REORDERED else (False,))
        ]
    orders = list(product(("h264", "hevc", "mpeg4"), (False, True)))
    found += [Film(c, "h264", turn=turn) for c in ("mp4", "mov", "mkv") for turn in TURNS]
    found += [
        Film(c, codec, reorder, start_ms=start_ms, options=options)
        for c, starts in STARTS.items()
        for (codec, reorder), (start_ms, options) in product(orders, starts)
    ]
    found += [
        Film(c, codec, reorder, before=before, cut=cut, options=AS_GIVEN)
        for c, (codec, reorder) in product(("mp4", "mov"), orders)
        for before, cut in product((0, 1), (1, 5, 13))
    ]
    found += [
        Film("ts", codec, reorder, fps, before=1, stamped=stamped)
        for codec, reorder in [*orders, ("mpeg2", True)]
        for fps, stamped in product(MPEG_RATES, (2, 5, 24))
        if not (codec == "mpeg4" and "/" in fps)  # it holds the ticks of its clock, not its rate
    ]
    return found


def expected(film: Film, decoding: list[Fraction]) -> list[Fraction]:
    """Seconds since the first picture."""
    if film.container in NO_RATE:
        return [Fraction(n, 25) for n in range(film.frames)]
    if film.container in BY_DECODING:
        return [time - decoding[0] for time in decoding]
    return film.times()


def differences(film: Film, decoding: list[Fraction], seen: list[Seen], report) -> list[str]:
    """What a stage received otherwise than it was written."""
    shown = list(range(film.cut, film.frames))
    times = zip(seen, expected(film, decoding), strict=False)
    off_s = max(abs(Fraction(s.media_us, 10**6) - time) for s, time in times)
    found = {
        "pictures": ([s.shown for s in seen], shown),
        "numbers": ([s.n for s in seen], list(range(len(shown)))),
        "sizes": ({s.size for s in seen}, {(WIDTH, HEIGHT)}),
        "times": (off_s <= Fraction(CLOCKS.get(film.container, 0.001)), True),
        "pixels": (max(s.off for s in seen) < (25 if film.codec == "gif" else 8), True),
        "errors": (report.decode_errors, 0),
        "promised": (report.frames_promised in (None, len(shown)), True),
        "ending": (report.ending, "eof"),
    }
    return [
        f"{film.name}: {what} {value} for {wanted}"
        for what, (value, wanted) in found.items()
        if value != wanted
    ]


FILMS = films()
LOOK = Pipeline(stages=[StageSpec("look", MaskRcnn())])


def test_the_matrix_has_this_many_combinations():
    assert len(FILMS) == len({film.name for film in FILMS}) == 993
    assert {film.before for film in FILMS} == {0, 1, 2}


@pytest.mark.parametrize("container", CODECS)
def test_what_a_stage_receives_is_what_was_drawn(container, tmp_path, monkeypatch):
    monkeypatch.setenv("SVT_LOG", "1")  # errors only
    found = []
    for film in (film for film in FILMS if film.container == container):
        path, out = tmp_path / film.name, tmp_path / f"{film.name}.out"
        decoding = write(film, path)
        source = SourceSpec(id="a", uri=str(path), kind="file")
        report = inline.run(LOOK, [source], build=looking.build, out=out).sources[0]
        found += differences(film, decoding, looking.seen(out, "a"), report)
        path.unlink()
        shutil.rmtree(out)
    assert not found, "\n".join(found)


SOME = [
    Film("mp4", "h264", reorder=True, fps="1", before=1),
    Film("ts", "hevc", reorder=True, before=1),
    Film("avi", "h264", reorder=True, after=1),
    Film("webm", "vp9", reorder=True, before=2),
    Film("mov", "mjpeg", fps="variable", turn=(90, True, False)),
    Film("mp4", "mpeg4", reorder=True, cut=5, options=AS_GIVEN),
]


def test_workers_receive_the_same(tmp_path):
    decoding = [write(film, tmp_path / film.name) for film in SOME]
    sources = [
        SourceSpec(id=f"s{k}", uri=str(tmp_path / film.name), kind="file")
        for k, film in enumerate(SOME)
    ]
    placement = Placement(workers=[WorkerSpec(stages=["look"])], slots=4)
    summary = launch.run(LOOK, placement, sources, build="looking:build", out=tmp_path)
    found = [
        difference
        for film, times, report in zip(SOME, decoding, summary.sources, strict=True)
        for difference in differences(film, times, looking.seen(tmp_path, report.id), report)
    ]
    assert not found, "\n".join(found)


def test_the_command_counts_the_same(tmp_path):
    for film in SOME:
        write(film, tmp_path / film.name)
    pipeline = tmp_path / "motion.yaml"
    pipeline.write_text("stages: [{name: camera, run: {kind: camera_motion}}]")
    sources = [word for film in SOME for word in ("--source", str(tmp_path / film.name))]
    command = [sys.executable, "-m", "streamvis", "run", str(pipeline), *sources]
    subprocess.run([*command, "--out", str(tmp_path / "out")], check=True, capture_output=True)
    found = json.loads((tmp_path / "out" / "summary.json").read_bytes())["sources"]
    counts = [(s["decoded"], s["admitted"], s["decode_errors"], s["ending"]) for s in found]
    assert counts == [(film.frames - film.cut,) * 2 + (0, "eof") for film in SOME]

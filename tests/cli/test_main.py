"""The command line as its users meet it: quick help, one line a fault, documented codes."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner, Result
from waiting import PATIENCE_S, until

import streamvis
from streamvis.cli.main import app

ROOT = Path(__file__).parents[2]
MOTION = "stages: [{name: camera, run: {kind: camera_motion}}]\n"  # no network, which takes seconds
PEOPLE = """
stages:
  - {name: detect, run: {kind: mask_rcnn, short_side: 192}}
  - {name: track, after: [detect], run: {kind: jipda}}
  - {name: publish, after: [track], run: {kind: publish, bind: null}}
"""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def pipeline(folder: Path, text: str) -> Path:
    path = folder / "pipeline.yaml"
    path.write_text(text)
    return path


def one_line(result: Result) -> str:
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_help_imports_nothing_heavy():
    code = (
        "import sys, streamvis.cli.main; "
        "print([m for m in ('torch', 'numpy', 'cv2', 'av', 'zmq') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["graph", "graph --help", "--version", "events schema"])
def test_output_that_cannot_be_written_is_one_line(command):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "streamvis", *command.split()],
            stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.stderr == "streamvis: the output cannot be written: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.parametrize(("closed", "shown"), [(">&-", ""), ("2>&-", "detect")])
def test_a_closed_stream_is_no_error_and_its_number_no_files(closed, shown):
    command = f'"{sys.executable}" -m streamvis graph {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(shown)


def test_the_reader_of_a_table_may_go_early():
    command = f'"{sys.executable}" -m streamvis check | true; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_characters_that_the_terminal_lacks_are_escaped(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "streamvis", "graph", tmp_path / "日.yaml"],
        env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert r"\u65e5.yaml: No such file" in done.stderr
    code = (
        "import sys; from streamvis.cli import output; output.prepare_streams(); output.put('日')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "\\u65e5\n"


def test_paragraphs_of_help_are_broken_by_the_terminal_alone():
    shown = " ".join(call("batch", "--help").stdout.split())
    assert "the content of the file (size, first and last MiB), the settings" in shown
    lines = [line.strip() for line in call("batch", "--help").stdout.splitlines()]
    start = next(n for n, line in enumerate(lines) if line.startswith("Results go to"))
    paragraph = lines[start : lines.index("", start)]
    assert all(len(line) > 60 for line in paragraph[:-1]), paragraph


def test_ctrl_c_while_the_program_is_imported_prints_nothing():
    code = """
import sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == "streamvis.cli.main":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
from streamvis.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_version_is_printed():
    result = call("--version")
    assert (result.exit_code, result.stdout) == (0, f"streamvis {streamvis.__version__}\n")


@pytest.mark.parametrize(
    "command",
    ["run", "batch", "demo", "check", "graph", "probe", "doctor", "events", "weights", "eval"],
)
def test_every_command_explains_itself(command):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout
    assert call(command, "-h").stdout == result.stdout


# Each makes a file and returns it, with the exit code and words of the answer to it.


def not_a_video(folder: Path) -> Path:
    path = folder / "notes.mp4"
    path.write_text("these are my notes\n" * 100)
    return path


def empty(folder: Path) -> Path:
    path = folder / "empty.mp4"
    path.touch()
    return path


def video(folder: Path) -> Path:
    path = folder / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for value in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), value * 9, np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def truncated(folder: Path) -> Path:
    path = video(folder)
    path.write_bytes(path.read_bytes()[:300])  # without its index, which stands at the end
    return path


def audio_only(folder: Path) -> Path:
    path = folder / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def absent(folder: Path) -> Path:
    return folder / "nowhere.mp4"


def empty_directory(folder: Path) -> Path:
    (folder / "nothing").mkdir()
    return folder / "nothing"


@pytest.mark.parametrize(
    "make", [not_a_video, empty, truncated, audio_only, absent, empty_directory]
)
def test_a_source_that_is_none_is_named_with_code_3(make, tmp_path):
    path = make(tmp_path)
    result = call("probe", path)
    assert result.exit_code == 3
    assert path.name in one_line(result)


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("rtsp://127.0.0.1:9/none", 3),
        ("http://127.0.0.1:9/none.mp4", 3),
        ("gopher://host/path", 2),
        ("synthetic:walkers?people=many", 2),
        ("", 2),
    ],
)
def test_a_url_that_leads_nowhere_is_told_without_its_password(source, code):
    result = call("probe", source.replace("127", "user:s3cret@127"))
    assert result.exit_code == code
    assert "s3cret" not in one_line(result)


def test_probe_tells_a_good_file_as_json(tmp_path):
    result = call("probe", video(tmp_path), "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["width"], found["height"], found["frames"]) == (64, 48, 20)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stages: [{name: a, run: {kind: mask_rcnn, min_scroe: 1}}]", "unknown field `min_scroe`"),
        ("stages: [{name: t, run: {kind: jipda}}]", "nothing above it writes them"),
        ("not: [yaml", "is not YAML"),
    ],
)
def test_a_faulty_pipeline_is_told_with_code_2(text, words, tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    for command in (("check", path), ("graph", path), ("run", path, "--source", "synthetic:")):
        result = call(*command)
        assert result.exit_code == 2
        assert words in one_line(result)


def test_check_and_graph_tell_a_good_pipeline():
    checked = call("check", ROOT / "pipelines/people.yaml", "--json")
    assert checked.exit_code == 0
    assert [s["name"] for s in json.loads(checked.stdout)["pipeline"]["stages"]] == [
        "detect",
        "camera",
        "embed",
        "track",
        "publish",
    ]
    assert "track    <- embed, camera" in call("graph").stdout
    assert call("graph", "--dot").stdout.startswith("digraph")


@pytest.mark.parametrize("command", [("show",), ("verify",), ("import",)])
def test_weights_that_are_none_are_told_with_code_4(command, tmp_path):
    path = tmp_path / "bad.pth"
    path.write_bytes(b"no weights")
    result = call("weights", *command, path)
    assert result.exit_code == 4
    assert "bad.pth" in one_line(result)


def test_shipped_weights_are_listed_shown_and_verified():
    listed = json.loads(call("weights", "list", "--json").stdout)
    assert "person-lite" in listed
    shown = call("weights", "show", "person-lite")
    assert "# person-lite" in shown.stdout
    assert "it fits" in call("weights", "verify", "person-lite").stdout


@pytest.mark.parametrize(
    "row",
    [
        "1,1,nan,0,10,10,1,-1,-1,-1",
        "1,1,0,0",
        "1,1,0,0,-5,10,1,-1,-1,-1",
        "frame,id,x,y,w,h,s,x,y,z",
    ],
)
def test_a_detection_file_that_is_none_is_told_by_line(row, tmp_path):
    (tmp_path / "seqinfo.ini").write_text(
        "[Sequence]\nname=a\nframeRate=10\nseqLength=5\nimWidth=64\nimHeight=48\n"
    )
    for name in ("gt/gt.txt", "det/det.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("1,1,0,0,10,10,1,-1,-1,-1\n")
    (tmp_path / "det/det.txt").write_text(row + "\n")
    result = call("eval", "mot", tmp_path, "--detections", "public")
    assert result.exit_code == 2
    assert "det.txt:1" in one_line(result)


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0 and then nothing"])
def test_a_log_that_is_none_is_told(content, tmp_path):
    (tmp_path / "events.db").write_bytes(content)
    result = call("events", "export", tmp_path)
    assert result.exit_code == 2
    assert "events.db" in one_line(result)


def test_an_absent_device_names_those_there_are(tmp_path):
    path = tmp_path / "on.yaml"
    rest = "{stages: [track, publish]}"
    path.write_text(f"workers: [{{stages: [detect], device: 'cuda:63'}}, {rest}]")
    result = call("run", pipeline(tmp_path, PEOPLE), "--on", path, "--source", "synthetic:")
    assert result.exit_code == 4
    assert "device 'cuda:63' is not there; this machine has cpu" in one_line(result)


def test_a_source_that_cannot_be_opened_ends_a_run_with_code_3(tmp_path):
    path = not_a_video(tmp_path)
    result = call("run", pipeline(tmp_path, MOTION), "--source", path)
    assert result.exit_code == 3
    assert "notes.mp4" in one_line(result)


def test_weights_that_do_not_fit_end_a_run_with_code_4(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    settings = ("--set", f"detect.weights={path}")
    result = call("run", pipeline(tmp_path, PEOPLE), "--source", "synthetic:", *settings)
    assert result.exit_code == 4
    assert "w.safetensors" in one_line(result)


def logged(path: Path) -> int:
    """How many events a log has, which may not be there yet."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as log:
            return log.execute("select count(*) from events").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def signalled(number, when, folder, *words) -> dict:
    """The summary of a run that got a signal, and its exit code."""
    scene = "a=synthetic:walkers?people=3&seconds=600&fps=10&size=320x240"
    command = ["run", *words, "--source", scene, "--out", folder]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamvis", *map(str, command)], stderr=subprocess.PIPE, text=True
    )
    with process:
        until(when)
        process.send_signal(number)
        code = process.wait(PATIENCE_S)
    return json.loads((folder / "summary.json").read_text()) | {"code": code}


def test_ctrl_c_drains_a_run(tmp_path):
    opened = (tmp_path / "sources.json").exists
    summary = signalled(signal.SIGINT, opened, tmp_path, pipeline(tmp_path, MOTION))
    assert (summary["code"], summary["interrupted"], summary["error"]) == (130, "SIGINT", "")
    assert [source["ending"] for source in summary["sources"]] == ["drained"]


def test_a_signal_drains_a_run_and_leaves_its_files_whole(tmp_path):
    people = pipeline(tmp_path, PEOPLE)
    several = lambda: logged(tmp_path / "events.db") > 5  # noqa: E731
    summary = signalled(signal.SIGTERM, several, tmp_path, people, "--annotate")
    assert (summary["code"], summary["interrupted"]) == (0, "SIGTERM")
    exported = call("events", "export", tmp_path).stdout.splitlines()
    kinds = [json.loads(line)["type"] for line in exported]
    assert kinds.count("track.begin") == kinds.count("track.end")
    with av.open(str(tmp_path / "annotated.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) > 0
    assert (tmp_path / "tracks.txt").exists()


@pytest.mark.parametrize("seconds", ["nan", "-1", "inf"])
def test_a_time_to_wait_for_events_is_a_number_of_seconds(seconds):
    result = call("events", "tail", "--timeout-s", seconds)
    assert result.exit_code == 2
    assert "timeout-s" in result.stderr


def test_a_feed_that_is_not_there_is_waited_for_as_long_as_asked():
    result = call("events", "tail", "--connect", "tcp://127.0.0.1:9", "--timeout-s", "0.1")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "nothing came from tcp://127.0.0.1:9 for 0.1 s" in result.stderr


def test_a_source_that_fails_while_others_go_on_is_told(tmp_path):
    sources = ("--source", video(tmp_path), "--source", not_a_video(tmp_path))
    result = call("run", pipeline(tmp_path, MOTION), *sources)
    assert result.exit_code == 0
    assert "notes.mp4' is not a video" in one_line(result)


@pytest.mark.parametrize(
    "source",
    [
        "video.mp4",
        "pictures",
        "rtsp://cam/main",
        "0",
        "synthetic:walkers",
        "a=*.avi",
        "a.mp4#fps=7",
    ],
)
def test_a_source_in_the_place_of_the_pipeline_is_told_where_it_belongs(
    source, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for more in ((), ("--source", "synthetic:")):
        result = call("run", source.replace("cam", "joe:s3cret@cam"), *more)
        assert result.exit_code == 2
        told = f"streamvis: {source} is a source, not a pipeline; did you mean: --source {source}\n"
        assert result.stderr == told


def test_a_run_without_sources_says_what_they_can_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "actions").mkdir()  # does not hide the pipeline that is called so
    (tmp_path / "a[1].yaml").write_text("stages: [{name: d, run: {kind: mask_rcnn}}]")
    for pipeline in ((), ("actions",), ("a[1].yaml",)):
        result = call("run", *pipeline)
        assert result.exit_code == 2
        assert "a run needs --source: a path, glob, directory, camera" in result.stderr
    result = call("run", "nosuch.yaml")
    assert (result.exit_code, "nosuch.yaml: No such file" in result.stderr) == (2, True)
    result = call("check", "rtsp://joe:s3cret@cam/main")
    assert result.exit_code == 2
    assert "s3cret" not in result.stderr


def test_probe_goes_on_after_a_file_that_cannot_be_opened(tmp_path):
    video(tmp_path)
    not_a_video(tmp_path)
    result = call("probe", tmp_path, "--json")
    assert result.exit_code == 3
    assert len(json.loads(result.stdout)) == 1
    assert result.stderr.count("streamvis: source") == 1
    assert call("probe", tmp_path).stdout.count("width") == 1

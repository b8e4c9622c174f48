import glob
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.errors import ConfigError, SourceError, StreamvisError, UsageError
from streamvis.sources.credentials import without_credentials
from streamvis.sources.listing import images_of, matches
from streamvis.sources.options import SETTINGS, scene_options
from streamvis.sources.spec import ID, SourceSpec, resolve

PLANE = [[0.1, 0, -3], [0, 0.2, -4], [0, 0.001, 1]]


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def plane_at(path: Path) -> None:
    path.write_text(json.dumps({"image_foot_to_world_m": PLANE}))


def sequence(folder: Path, *lines: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "seqinfo.ini").write_text("\n".join(["[Sequence]", *lines]))
    return folder


def only(*texts: str) -> SourceSpec:
    (spec,) = resolve(texts)
    return spec


def brief(*texts: object) -> list[tuple[str, str, str]]:
    return [(spec.id, spec.kind, Path(spec.uri).name) for spec in resolve([str(t) for t in texts])]


def test_paths_globs_and_directories(tmp_path):
    touch(tmp_path, "b10.mp4", "b2.mp4", "notes.txt", "frames/2.png", "frames/10.png")
    files = [("b2", "file", "b2.mp4"), ("b10", "file", "b10.mp4")]
    assert brief(tmp_path / "b2.mp4") == files[:1]
    assert brief(tmp_path / "*.mp4") == files
    assert brief(tmp_path) == files
    assert brief(tmp_path / "b*") == files
    assert brief(tmp_path / "frames") == [("frames", "images", "frames")]
    assert brief(tmp_path / "frames" / "*.png") == [("frames", "images", "*.png")]
    assert brief(tmp_path / "frames" / "2.png") == [("2", "images", "2.png")]


def test_images_are_in_natural_order(tmp_path):
    names = ["1.jpg", "2.JPG", "10.png", "a1.jpg", "a02.jpg", "a10.jpg"]
    touch(tmp_path, *names, "readme.md")
    assert [path.name for path in images_of(str(tmp_path))] == names


def test_ids_come_from_names_and_are_unique(tmp_path):
    touch(tmp_path, "x/Café No. 1.mp4", "y/Café No. 1.mp4", "z/---.mp4")
    names = [spec.id for spec in resolve([f"{tmp_path}/{d}/*.mp4" for d in "xyz"])]
    assert names == ["cafe-no-1", "cafe-no-1-2", "file"]


def test_a_given_id_goes_to_the_first_of_its_sources(tmp_path):
    touch(tmp_path, "gate.mp4", "b.mp4")
    assert [spec.id for spec in resolve([f"{tmp_path}/gate.mp4", f"gate={tmp_path}"])] == [
        "gate-2",
        "gate",
        "gate-3",
    ]


def test_an_id_given_twice_is_refused(tmp_path):
    touch(tmp_path, "a.mp4")
    with pytest.raises(UsageError, match="two sources have the id 'gate'"):
        resolve([f"gate={tmp_path}/a.mp4", "gate=0"])


def test_an_id_that_is_none_is_refused():
    with pytest.raises(UsageError, match="source id 'Gate 1' in 'Gate 1=0' is not made of a-z"):
        resolve(["Gate 1=0"])


@given(st.lists(st.text(max_size=80), max_size=6))
def test_any_names_give_valid_unique_ids(names):
    specs = resolve([f"rtsp://host/{name.replace('#', '')}" for name in names])
    assert len({spec.id for spec in specs}) == len(names)
    assert all(ID.fullmatch(spec.id) for spec in specs)


def test_cameras():
    assert (only("0").uri, only("0").id, only("0").kind) == ("/dev/video0", "camera-0", "camera")
    assert only("door=/dev/video12") == SourceSpec(id="door", uri="/dev/video12", kind="camera")


def test_urls():
    spec = only("rtsp://Camera-3:554/main/1")
    assert (spec.id, spec.kind) == ("camera-3-554-main-1", "url")
    assert [s.id for s in resolve(["http://h/a.mp4", "http://h/a.mp4"])] == ["h-a-mp4", "h-a-mp4-2"]


def test_settings_after_a_hash(tmp_path):
    spec = only("gate=rtsp://u:p%231@host/main#rtsp_transport=udp&read_s=2&open_s=3.5")
    assert (spec.id, spec.uri) == ("gate", "rtsp://u:p%231@host/main")
    assert spec.options == {"rtsp_transport": "udp"}
    assert (spec.read_s, spec.open_s, spec.fps) == (2.0, 3.5, None)
    touch(tmp_path, "a.mp4", "b#fps=3.mp4")
    assert only(f"{tmp_path}/a.mp4#fps=7").fps == 7.0
    assert only(f"{tmp_path}/b#fps=3.mp4").fps is None
    with pytest.raises(UsageError, match="fps=-1, expected a number of at least 1e-05"):
        resolve([f"{tmp_path}/a.mp4#fps=-1"])


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("rtsp://host/main", "rtsp://host/main"),
        ("rtsp://user:pw@host:554/main", "rtsp://host:554/main"),
        ("rtsp://user:p@ss@host/main", "rtsp://host/main"),
        ("rtsp://user:p/a?s#s@host/main", "rtsp://host/main"),
        ("rtsp://user:1234/5@host/main", "rtsp://host/main"),
        ("rtsp://user@host/main", "rtsp://host/main"),
        ("http://host/video?user=a&pwd=b", "http://host/video?…"),
        ("rtsp://host/user=admin_password=tl_channel=1.sdp", "rtsp://host/…"),
        ("rtsp://[::1]:8554/a", "rtsp://[::1]:8554/a"),
    ],
)
def test_labels_hold_no_credentials(url, label):
    assert without_credentials(url) == label
    assert SourceSpec(id="a", uri=url, kind="url").label == label


SECRET = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF), min_size=1, max_size=12)


@given(SECRET, SECRET)
def test_no_password_however_odd_is_ever_shown(user, password):
    """Wrapped in marks that occur nowhere else."""
    url = f"rtsp://ΨA{user}ΨB:ΨC{password}ΨD@host/main"
    try:
        spec = only(f"gate={url}")
        assert spec.uri == url
        texts = [spec.label, repr(spec), str(spec), f"{spec}", spec.id]
    except UsageError as error:
        assert set("#/?") & set(user + password)
        texts = [str(error)]
    for text in texts:
        assert "Ψ" not in text
    with pytest.raises(UsageError) as refused:
        resolve([url.replace("rtsp:", "gopher:")])
    assert "Ψ" not in str(refused.value)


def test_synthetic_scenes():
    spec = only("synthetic:walkers?seed=3&people=6&seconds=2.5&size=320x240&fps=12&live=1")
    assert (spec.id, spec.kind) == ("synthetic-walkers", "synthetic")
    options = scene_options(spec.uri)
    assert (options.seed, options.people, options.seconds) == (3, 6, 2.5)
    assert (options.size, options.fps, options.live) == ((320, 240), 12.0, True)
    assert scene_options(only("synthetic:").uri).size == (640, 480)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("synthetic:cars", "no scene 'cars'; there is only 'walkers'"),
        ("synthetic:walkers?peple=3", "unknown field `peple`.*Allowed: seed, people"),
        ("synthetic:walkers?people=many", r"\$.people"),
        ("synthetic:walkers?size=640", r"\$.size"),
        ("synthetic:walkers?size=9x9", r"\$.size"),
        ("synthetic:walkers?seconds=0", r"\$.seconds"),
        ("", "a source is empty"),
        ("gate=", "a source is empty"),
        ("ftp://host/a.mp4", "'ftp:' is none of http://, https://, rtsp://, rtsps://, synthetic:"),
        ("rtsp:/host/a", "'rtsp:' is none of"),
        ("rtsp:///main", "names no host"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(text, message):
    with pytest.raises(UsageError, match=message):
        resolve([text])


def test_what_is_not_there_is_a_source_error(tmp_path):
    touch(tmp_path, "docs/a.txt")
    for text, message in [
        ("no.mp4", "no such file or directory"),
        ("*.mp4", "matches nothing"),
        ("docs/*", "matches 1 files, none of them video or image"),
        ("docs", "without videos, images or a MOTChallenge seqinfo.ini"),
    ]:
        with pytest.raises(SourceError, match=message):
            resolve([f"{tmp_path}/{text}"])


def test_videos_among_images_are_not_guessed_at(tmp_path):
    touch(tmp_path, "a.mp4", "poster.jpg")
    for text in (tmp_path, tmp_path / "*"):
        with pytest.raises(UsageError, match="1 videos and 1 images"):
            resolve([str(text)])


def test_a_sequence_folder_knows_its_rate(tmp_path):
    touch(sequence(tmp_path / "s", "name=S-01", "frameRate=7", "video=v.avi"), "v.avi")
    plane_at(tmp_path / "s" / "ground_plane.json")
    spec = only(str(tmp_path / "s"))
    assert (spec.id, spec.kind, spec.fps, Path(spec.uri).name) == ("s-01", "file", 7.0, "v.avi")
    assert spec.ground_plane == tuple(number for row in PLANE for number in row)
    assert only(str(tmp_path / "s" / "v.avi")) == spec
    assert only(str(tmp_path)) == spec
    assert only(f"{tmp_path}/*") == spec


def test_a_sequence_of_images(tmp_path):
    touch(sequence(tmp_path / "s", "frameRate=30", "imDir=img1"), "img1/000001.jpg")
    plane_at(tmp_path / "s" / "ground_plane.json")
    spec = only(str(tmp_path / "s"))
    assert (spec.id, spec.kind, spec.fps) == ("s", "images", 30.0)
    assert spec.ground_plane is not None


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["frameRate=7", "video=gone.avi"], "says video=gone.avi, but .* is absent"),
        (["frameRate=7"], "has no video= and .*img1 holds no images"),
        (["frameRate=seven"], "frameRate=seven; expected a number above 0"),
        (["[Sequence]"], "is not a MOTChallenge seqinfo.ini"),
    ],
)
def test_a_sequence_that_does_not_add_up(tmp_path, lines, message):
    with pytest.raises(SourceError, match=message):
        resolve([str(sequence(tmp_path / "s", *lines))])


def test_a_ground_plane_named_after_the_video_applies(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4", "frames/1.png")
    plane_at(tmp_path / "a.ground_plane.json")
    plane_at(tmp_path / "frames.ground_plane.json")
    a, b = resolve([str(tmp_path)])
    assert a.ground_plane is not None
    assert b.ground_plane is None
    assert only(str(tmp_path / "frames")).ground_plane is not None


def test_a_nameless_ground_plane_applies_to_a_video_that_is_alone(tmp_path):
    touch(tmp_path, "a.mp4")
    plane_at(tmp_path / "ground_plane.json")
    assert only(str(tmp_path / "a.mp4")).ground_plane is not None
    touch(tmp_path, "b.avi")
    assert only(str(tmp_path / "a.mp4")).ground_plane is None


def test_a_camera_has_its_ground_plane_where_we_are_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plane_at(tmp_path / "gate.ground_plane.json")
    plane_at(tmp_path / "camera-1.ground_plane.json")
    planes = [
        spec.ground_plane is not None
        for spec in resolve(["gate=rtsp://host/1", "rtsp://host/2", "0", "1"])
    ]
    assert planes == [True, False, False, True]


def test_the_picture_to_check_a_plane_by_is_no_picture_of_the_source(tmp_path):
    touch(tmp_path, "a.mp4", "a.ground_plane.png", "frames/1.png", "frames/ground_plane.png")
    assert [spec.kind for spec in resolve([str(tmp_path)])] == ["file"]
    assert [path.name for path in images_of(str(tmp_path / "frames"))] == ["1.png"]
    assert only(str(tmp_path / "a.ground_plane.png")).kind == "images"


def test_a_ground_plane_that_is_none_is_told(tmp_path):
    touch(tmp_path, "a.mp4").joinpath("ground_plane.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"ground_plane\.json is not a ground plane"):
        resolve([str(tmp_path / "a.mp4")])


def test_specs_travel(tmp_path):
    touch(tmp_path, "a.mp4")
    plane_at(tmp_path / "ground_plane.json")
    for spec in resolve(
        [str(tmp_path), "rtsp://u:p@h/x#read_s=2&rtsp_flags=listen", "0", "synthetic:"]
    ):
        data = msgspec.msgpack.encode(spec)
        assert msgspec.msgpack.decode(data, type=SourceSpec) == spec


def test_resolving_needs_neither_pyav_nor_opencv():
    code = "import sys, streamvis.sources.spec; print({'av', 'cv2', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@given(st.text(max_size=300))
def test_any_text_is_a_source_or_a_clear_error(text):
    with suppress(StreamvisError):
        assert resolve([text])


def test_the_current_directory_may_be_a_source(tmp_path, monkeypatch):
    touch(tmp_path / "frames", "1.png", "²")
    monkeypatch.chdir(tmp_path / "frames")
    assert [(spec.id, spec.kind) for spec in resolve(["."])] == [("frames", "images")]


def test_a_name_that_is_not_text_is_told(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    path.touch()
    for text in (str(path), str(tmp_path), str(tmp_path / "*.mp4")):
        with pytest.raises(SourceError, match=r"caf\\xe9\.mp4': the name has bytes"):
            resolve([text])


def test_what_exists_is_no_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(touch(tmp_path, "13/a.mp4", "20240115/b.mp4", "7"))
    assert brief("13", "20240115", "7", "8") == [
        ("a", "file", "a.mp4"),
        ("b", "file", "b.mp4"),
        ("7", "file", "7"),
        ("camera-8", "camera", "video8"),
    ]
    with pytest.raises(SourceError, match="'20240116': no such file or directory, and cameras"):
        resolve(["20240116"])


def test_names_that_begin_with_a_dot_are_not_listed(tmp_path):
    names = [f"{n}.jpg" for n in range(3)]
    touch(tmp_path, *(f"frames/{mark}{name}" for name in names for mark in ("", "._")))
    touch(tmp_path, "a.mp4", "._a.mp4", ".trash/b.mp4", "ground_plane.json")
    plane_at(tmp_path / "ground_plane.json")
    for text in ("frames", "frames/*", "frames/._*", "fram*/*.jpg"):
        found = [path.name for path in images_of(f"{tmp_path}/{text}")]
        assert found == ([] if "._" in text else names)
    for text in ("", "*.mp4", ".*.mp4", "**/*.mp4", ".*/*.mp4"):
        try:
            found = brief(f"{tmp_path}/{text}")
        except SourceError:
            found = []
        assert found == {".*.mp4": [], ".*/*.mp4": [("b", "file", "b.mp4")]}.get(
            text, [("a", "file", "a.mp4")]
        )
    assert only(str(tmp_path / "a.mp4")).ground_plane is not None  # ._a.mp4 is no second video
    assert brief(tmp_path / "._a.mp4") == [("_a", "file", "._a.mp4")]  # named, not listed


@pytest.fixture
def nest(tmp_path):
    """Three videos at different depths, links in circles and a second name for one of them."""
    touch(tmp_path, "top.mp4", "x/one.mp4", "x/deep/two.avi", "x/.cache/no.mp4", "img/1.png")
    (tmp_path / "x" / "loop").symlink_to(tmp_path)
    (tmp_path / "x" / "deep" / "up").symlink_to(tmp_path / "x")
    (tmp_path / "again.mp4").symlink_to(tmp_path / "x" / "one.mp4")
    return tmp_path


def test_each_file_is_found_once_however_many_links_lead_to_it(nest):
    three = ["one.mp4", "top.mp4", "two.avi"]
    for text in ("**/*.[ma]*", "**/**/*.[ma]*", "*/../**/*.[ma]*"):
        assert sorted(name for _, _, name in brief(f"{nest}/{text}")) == three
    found = resolve([str(nest)], recursive=True)
    assert sorted(Path(spec.uri).name for spec in found) == three
    assert [Path(s.uri).name for s in resolve([f"{nest}/**/*.mp4", str(nest)], recursive=True)] == [
        "one.mp4",
        "top.mp4",
        "two.avi",
    ]


def test_a_file_that_is_named_twice_is_two_sources(nest):
    one = f"{nest}/x/one.mp4"
    assert len(resolve([one, one])) == 2
    assert len(resolve([f"{nest}/x", one])) == 1  # found, and named
    assert len(resolve([f"a={nest}/x", one])) == 2


def test_globs_match_what_glob_matches(tmp_path):
    """Where there are no links, `**` is that of glob.glob."""
    touch(tmp_path, "a.mp4", "x/b.mp4", "x/y/c.mp4", "x/y/z/d.mp4", "w/y/e.mp4", ".h/f.mp4")
    for text in (
        "**",
        "**/*.mp4",
        "x/**",
        "*/**/*.mp4",
        "**/y/*.mp4",
        "**/y/**/*.mp4",
        "[x]/**/c*",
    ):
        pattern = f"{tmp_path}/{text}"
        assert set(matches(pattern)) == {Path(p) for p in glob.glob(pattern, recursive=True)}


def test_videos_below_are_counted_or_taken(nest, capsys):
    (nest / "img" / "1.png").unlink()
    assert brief(nest) == [("again", "file", "again.mp4"), ("top", "file", "top.mp4")]
    said = capsys.readouterr().err
    assert "videos in directories below it: 2. Take them with" in said
    assert "batch --recursive" in said
    brief(nest, nest / "x" / "deep" / "*.avi")
    assert capsys.readouterr().err.count("\n") == 1
    resolve([str(nest)], recursive=True)
    assert not capsys.readouterr().err
    (nest / "top.mp4").unlink()
    (nest / "again.mp4").unlink()
    with pytest.raises(SourceError, match=r"without videos.*videos in directories below it: 2"):
        resolve([str(nest)])


def test_recursion_takes_sequences_whole_and_pictures_only_without_videos(tmp_path):
    touch(sequence(tmp_path / "d" / "s", "frameRate=7", "video=v.avi"), "v.avi", "more.avi")
    touch(tmp_path, "d/poster.jpg", "d/x/thumbs/1.jpg", "d/x/a.mp4")
    found = resolve([str(tmp_path)], recursive=True)
    assert [(spec.id, spec.kind, spec.fps) for spec in found] == [
        ("s", "file", 7.0),
        ("a", "file", None),
    ]
    touch(tmp_path, "pictures/b/1.jpg", "pictures/a/1.jpg")
    found = resolve([str(tmp_path / "pictures")], recursive=True)
    assert [(spec.id, spec.kind) for spec in found] == [("a", "images"), ("b", "images")]


@pytest.mark.parametrize("password", ["p#ss", "p/ss", "p?ss", "1#2", "99999/2", "#"])
def test_a_password_that_cuts_the_address_is_told_how_to_be_written(password):
    url = f"rtsp://joe:{password}@camera/main"
    with pytest.raises(UsageError, match=r"has a character .* write %23 for #, %2F for /") as no:
        resolve([f"gate={url}"])
    assert password not in str(no.value).replace("%23 for #", "")
    written = quote(password, safe="")
    assert only(f"gate={url.replace(password, written)}").label == "rtsp://camera/main"


@pytest.mark.parametrize(
    "url",
    [
        "http://h/@joe/live",
        "http://h:8080/@joe",
        "rtsp://h/a?user=joe@b",
        "rtsp://[::1]:8554/a@b",
        "rtsp://joe:p@ss@h/a",
        "rtsp://joe@h:554/x@2",
    ],
)
def test_an_at_sign_behind_the_host_is_none_of_a_password(url):
    assert only(url).uri == url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rtsp://u:pw@h/a#rtsp_transport=upd", "unknown value 'upd'; did you mean udp?"),
        ("rtsp://u:pw@h/a#rtsp_transprot=udp", "'rtsp_transprot'; did you mean rtsp_transport"),
        ("rtsp://u:pw@h/a#rtsp_transport=", "unknown value ''"),
        ("rtsp://u:pw@h/a#rtsp_flags=listen+prefer_udp", "did you mean prefer_tcp?"),
        ("http://u:pw@h/a#rtsp_transport=tcp", "no setting 'rtsp_transport'"),
        ("http://u:pw@h/a#reconnect=maybe", "Allowed: 0, 1, true, false, auto"),
        ("http://u:pw@h/a#timeout=soon", "timeout=soon is not a number"),
        ("http://u:pw@h/a#page", "what follows '#' is not made of settings"),
        ("http://u:pw@h/a#user_agent=x#read_s=2", "what follows '#' is not made of settings"),
        (
            "a.mp4#fsp=7",
            "'fsp'; did you mean fps? Allowed: fps, start_time, hwaccel, analyzeduration",
        ),
        ("a.mp4#fps=seven", "fps=seven, expected a number"),
        ("a.mp4#fps=0", "fps=0, expected a number of at least 1e-05"),
        ("a.mp4#fps=1e-300", "fps=1e-300, expected a number of at least 1e-05"),
        ("a.mp4#open_s=3", "no setting 'open_s'"),
        ("7#input_fromat=mjpeg", "did you mean input_format?"),
        ("frames#framerate=7", "no setting 'framerate'. Allowed: fps, start_time"),
        ("synthetic:walkers#seed=3", "no setting 'seed'"),
    ],
)
def test_settings_that_there_are_not_are_refused_by_name(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(touch(tmp_path, "a.mp4", "frames/1.png"))
    with pytest.raises(UsageError) as refused:
        resolve([f"gate={text}"])
    assert message in str(refused.value)
    assert "pw" not in str(refused.value)


def test_settings_of_ffmpeg_come_through(tmp_path):
    touch(tmp_path, "a.h264")
    for text, options in [
        (
            "http://h/a#user_agent=Mozilla/5.0 (X11)&reconnect=1",
            {"user_agent": "Mozilla/5.0 (X11)"},
        ),
        ("http://h/a#headers=From: a%40b", {"headers": "From: a@b"}),
        ("rtsp://h/a#fflags=+genpts-nobuffer&max_delay=5e5", {"fflags": "+genpts-nobuffer"}),
        ("rtsp://h/a#probesize=5M&rtsp_transport=udp+tcp", {"rtsp_transport": "udp+tcp"}),
        ("7#input_format=mjpeg&video_size=1280x720", {"video_size": "1280x720"}),
        (f"{tmp_path}/a.h264#framerate=30000%2F1001", {"framerate": "30000/1001"}),
    ]:
        found = only(text).options
        assert {key: found[key] for key in options} == options


def test_a_file_whose_settings_are_not_written_as_such_is_told(tmp_path):
    touch(tmp_path, "a.mp4")
    for tail in ("fps", "fps:7", "framerate=30000/1001"):
        with pytest.raises(SourceError, match=r"no such file .*\. Settings of .* #name=value&name"):
            resolve([f"{tmp_path}/a.mp4#{tail}"])


def test_every_setting_is_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
    assert {name for known in SETTINGS.values() for name in known} <= set(
        re.findall(r"`(\w+)`", text)
    )

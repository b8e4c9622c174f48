"""A sources file becomes sources; what is wrong in it is named with file and place."""

import json
import math
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from streamvis.config.site import Site, SiteSource, load_site
from streamvis.errors import ConfigError, SourceError, UsageError
from streamvis.fields import signed_area
from streamvis.recording.settings import Clips, Recording, Segments
from streamvis.sources.listing import images_of
from streamvis.sources.spec import SourceSpec
from streamvis.zone_layout import crosses_itself

ROOT = Path(__file__).parents[2]
PLANE = [[0.1, 0, -3], [0, 0.2, -4], [0, 0.001, 1]]


def site(folder: Path, text: str, **environ: str) -> Site:
    path = folder / "site.yaml"
    path.write_text(text)
    path.chmod(0o600)
    return load_site(path, environ)


def test_the_shipped_file_loads(capsys):
    loaded = load_site(ROOT / "configs/site.yaml", {"GATE_PASSWORD": "p@ss/word"})
    gate, yard, scene = loaded.specs()
    assert gate.uri == "rtsp://streamvis:p%40ss%2Fword@192.0.2.10:554/main"
    assert (gate.read_s, gate.stall_s, gate.retry_s) == (5.0, 2.0, 30.0)
    assert gate.options == {"rtsp_transport": "tcp"}
    assert gate.privacy_masks == (((0.0, 0.0), (0.3, 0.0), (0.3, 0.4), (0.0, 0.4)),)
    assert [yard.kind, scene.kind] == ["url", "synthetic"]
    assert capsys.readouterr().err == ""  # no password stands in it


def refused(folder: Path, text: str, **environ: str) -> str:
    with pytest.raises((ConfigError, UsageError, SourceError)) as error:
        site(folder, text, **environ)
    message = str(error.value)
    assert str(folder / "site.yaml") in message
    assert "\n" not in message
    return message


CAMERA = "{id: gate, uri: 'rtsp://192.0.2.10/main'"


def test_a_file_that_is_read_again_by_its_whole_path_has_the_same_sources(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "door.yaml").write_text("zones: []")
    monkeypatch.chdir(tmp_path)
    text = "sources: [{id: a, uri: a.mp4, zones: door.yaml}]"
    assert site(Path(), text).specs() == load_site(tmp_path / "site.yaml").specs()


def test_every_setting_reaches_the_source(tmp_path):
    (tmp_path / "pw").write_text("a:b@c\n")
    (tmp_path / "pw").chmod(0o640)
    (spec,) = site(
        tmp_path,
        f"""
        sources:
        - id: gate
          uri: rtsp://192.0.2.10/main#max_delay=500000
          fps: 12.5
          ground_plane: {PLANE}
          privacy_masks: [[[10, 20], [30, 20], [30, 40]]]
          open_s: 3
          read_s: 4.5
          stall_s: 1
          retry_s: 0
          transport: udp
          user: jöe
          password_file: pw
          hwaccel: cuda
        """,
    ).specs()
    assert spec == SourceSpec(
        id="gate",
        uri="rtsp://jöe:a%3Ab%40c@192.0.2.10/main",
        kind="url",
        ground_plane=tuple(map(float, np.ravel(PLANE))),
        fps=12.5,
        open_s=3.0,
        read_s=4.5,
        stall_s=1.0,
        retry_s=0.0,
        options={"max_delay": "500000", "rtsp_transport": "udp"},
        hwaccel="cuda",
        privacy_masks=(((10.0, 20.0), (30.0, 20.0), (30.0, 40.0)),),
    )
    assert not spec.reconnects


def test_relative_paths_start_at_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    folder = tmp_path / "[a]"  # no glob, though it looks like one
    for name in ("day.mp4", "frames/1.png", "frames/2.png", "0#1.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    for name in ("planes.json", "own.ground_plane.json"):
        (folder / name).write_text(json.dumps({"image_foot_to_world_m": PLANE}))
    day, frames, glob, odd, own, camera = site(
        folder,
        """
        sources:
        - {id: day, uri: day.mp4, ground_plane: planes.json}
        - {id: frames, uri: frames#fps=5}
        - {id: glob, uri: 'frames/*.png'}
        - {id: odd, uri: 0#1.mp4}
        - {id: own, uri: 'http://192.0.2.10/own.mp4'}
        - {id: camera, uri: "0"}
        """,
    ).specs()
    assert (Path(day.uri), day.kind) == (folder / "day.mp4", "file")
    assert day.ground_plane == own.ground_plane == tuple(map(float, np.ravel(PLANE)))
    assert (Path(frames.uri), frames.fps) == (folder / "frames", 5.0)
    assert [path.name for path in images_of(glob.uri)] == ["1.png", "2.png"]
    assert Path(odd.uri) == folder / "0#1.mp4"
    assert (camera.uri, camera.kind) == ("/dev/video0", "camera")


def test_variables_are_replaced_in_texts_and_values_stay_whole(tmp_path):
    hard = "a: {b}, #c \"d' $E ${F}"
    (spec,) = site(
        tmp_path,
        f"sources: [{CAMERA}, user: '$$u$', password: 'x${{CAM_1}}y$${{Z}}'}}]",
        CAM_1=hard,
    ).specs()
    user, _, password = spec.uri.partition("://")[2].rpartition("@")[0].partition(":")
    assert unquote(user) == "$u$"
    assert unquote(password) == f"x{hard}y${{Z}}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sources:", "Expected `array`, got `null`"),
        ("- a", "expected a mapping at the top, found list"),
        ("source: []", "unknown field `source`; did you mean sources? Allowed: sources"),
        (f"sources: [{CAMERA}, reed_s: 3}}]", "`reed_s` - at `$.sources[0]` (of 'gate'); did you"),
        (f"sources: [{CAMERA}, zonen: []}}]", "unknown field `zonen`"),
        (f"sources: [{CAMERA}, transport: upd}}]", "'upd' - at `$.sources[0].transport`"),
        (f"sources: [{CAMERA}, read_s: 0}}]", "> 0.0 - at `$.sources[0].read_s` (of 'gate')"),
        (f"sources: [{CAMERA}, read_s: .nan}}]", "sources[0]"),
        (f"sources: [{CAMERA}, read_s: ten}}]", "Expected `float | null`, got `str`"),
        (f"sources: [{CAMERA}, password: 1234}}]", "got `int`"),
        (f"sources: [{CAMERA}, password: true}}]", "got `bool`"),
        (f"sources: [{CAMERA}, stall_s: 6}}]", "stall_s=6, expected less than read_s=5"),
        (f"sources: [{CAMERA}, hwaccel: cudo}}]", "did you mean cuda?"),
        ("sources: [{id: Gate 1, uri: '0'}]", "matching regex '^[a-z0-9_-]{1,64}$'"),
        ("sources: [{id: a, uri: '0'}, {id: b, uri: '1'}, {id: a, uri: '2'}]", "and sources[2]"),
        ("sources: [{id: a}]", "missing required field `uri` - at `$.sources[0]` (of 'a')"),
        ("sources: [{id: a, uri: ''}]", "sources[0] (of 'a'): a source is empty"),
        ("sources: [{id: a, uri: none.mp4}]", "none.mp4': no such file or directory"),
        ("sources: [{id: a, uri: '*.mp4'}]", "matches nothing"),
        ("sources: [{id: a, uri: 'synthetic:', read_s: 3}]", "has no setting 'read_s'"),
        ("sources: [{id: a, uri: 'synthetic:', hwaccel: auto}]", "has no setting 'hwaccel'"),
        ("sources: [{id: a, uri: 'synthetic:#fps=3', fps: 4}]", "has 'fps' twice"),
        (f"sources: [{CAMERA}, ground_plane: no.json}}]", "no.json: No such file"),
        (f"sources: [{CAMERA}, ground_plane: [[1, 2], [3, 4]]}}]", "length 3"),
        (f"sources: [{CAMERA}, ground_plane: [[1,2,3],[1,2,3],[1,2,3]]}}]", "cannot be inverted"),
        (f"sources: [{CAMERA}, privacy_masks: [[[0, 0], [1, 1]]]}}]", "length >= 3"),
        (f"sources: [{CAMERA}, privacy_masks: [[[0, 0], [1, 1], [-1, 0]]]}}]", ">= 0.0"),
        (
            f"sources: [{CAMERA}, privacy_masks: [[[0, 0], [1, 1], [1, 0], [0, 1]]]}}]",
            "privacy_masks[0] crosses or touches itself",
        ),
        (f"sources: [{CAMERA}, password: '${{NOPE}}'}}]", "NOPE at `$.sources[0].password` is not"),
        (f"sources: [{CAMERA}, password: '${{a b}}'}}]", "expected ${NAME}"),
        (f"sources: [{CAMERA}, password: 'x${{NOPE'}}]", "expected ${NAME}"),
        (f"sources: [{CAMERA}, user: a, password_file: no}}]", "no: No such file or directory"),
        ("sources: [{id: a, uri: 'synthetic:', record: {segments: {}}}]", "remove its `record`"),
        (f"sources: [{CAMERA}, record: {{}}}}]", "`segments`, `clips` or both"),
        (
            f"sources: [{CAMERA}, record: {{clips: {{on: [track.begin, source.offlin]}}}}}}]",
            "type 'source.offlin' in `record.clips.on`; did you mean source.offline",
        ),
        (
            f"record: {{clips: {{on: [source.clip]}}}}\nsources: [{CAMERA}}}]",
            "no event of a source has the type 'source.clip'",
        ),
        (
            f"sources: [{CAMERA}, record: {{segments: {{}}}}, "
            "privacy_masks: [[[0, 0], [1, 0], [1, 1]]]}]",
            "set `unmasked: true` in `record`",
        ),
        ("sources: &a [*a]", "an alias refers to what it is a part of"),
        ("sources: [", "is not YAML"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, text, words):
    assert words in refused(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        f"sources: [{CAMERA}, user: joe, password: 'geheim'",
        f"sources:\n- {CAMERA}, user: joe, password: *geheim}}",
        f"sources:\n- {CAMERA}, user: joe, password: !geheim x}}",
        f"sources:\n- {CAMERA}, user: joe, password: @geheim}}",
        f'sources:\n- {CAMERA}, user: joe, password: "\\geheim"}}',
        "sources:\n- id: gate\n  uri: rtsp://joe:geheim@h/a\n  password: geheim: x",
        "sources: [{id: gate, uri: 'rtsp://joe:geheim@h/a', password: geheim}]",
        "sources: [{id: gate, uri: 'rtsp://joe:geheim@h/a', user: geheim}]",
        "sources: [{id: gate, uri: 'rtsp://joe:gehe/im@h/a#x=geheim'}]",
        "sources: [{id: gate, uri: 'a.b=rtsp://joe:geheim@h/a'}]",
        "sources: [{id: gate, uri: 'rtsp://h/a#password=geheim@x'}]",
        f"sources: [{CAMERA}, password: geheim}}]",
        f"sources: [{CAMERA}, user: 'geh:eim', password: geheim}}]",
        f'sources: [{CAMERA}, user: joe, password: "geheim\\n"}}]',
        f"sources: [{CAMERA}, user: joe, password: [geheim]}}]",
        f"sources: [{CAMERA}, user: joe, password: {{geheim: 1}}}}]",
        f"sources: [{CAMERA}, user: joe, password: geheim{'@' * 50}}}]",
    ],
)
def test_no_error_shows_a_password(tmp_path, text):
    assert "eheim" not in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("password", "mode", "warned"),
    [
        ("password: pw", 0o644, True),
        ("password: pw", 0o640, False),
        ("password: '${PW}'", 0o644, False),
    ],
)
def test_a_password_in_a_file_that_all_may_read_is_warned_of(
    tmp_path, capsys, password, mode, warned
):
    path = tmp_path / "site.yaml"
    path.write_text(f"sources: [{CAMERA}, user: joe, {password}}}]")
    path.chmod(mode)
    load_site(path, {"PW": "pw"})
    assert ("has the mode 0644; expected 0600 or 0640" in capsys.readouterr().err) == warned


def test_a_recording_for_all_is_that_of_cameras_which_do_not_say(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    given = site(
        tmp_path,
        """
        record: {segments: {keep_gb: 5}}
        sources:
        - {id: a, uri: "0"}
        - {id: b, uri: "1", record: {clips: {on: [track.begin]}}}
        - {id: c, uri: "2", record: null}
        - {id: d, uri: "synthetic:"}
        - {id: e, uri: a.mp4}
        """,
    )
    for_all, clips = (
        Recording(segments=Segments(keep_gb=5)),
        Recording(clips=Clips(["track.begin"])),
    )
    assert [spec.record for spec in given.specs()] == [for_all, clips, None, None, None]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=3))
def test_a_triangle_crosses_or_touches_itself_only_where_it_has_no_area(triangle):
    assert crosses_itself(triangle) <= (signed_area(triangle) == 0)


@given(st.lists(st.floats(0, 6.28), min_size=3, max_size=9, unique_by=lambda a: round(a, 2)))
def test_corners_in_order_around_a_point_do_not_cross_and_two_exchanged_ones_do(angles):
    corners = [(10 + 5 * math.cos(a), 10 + 5 * math.sin(a)) for a in sorted(angles)]
    assert not crosses_itself(corners)
    if len(corners) > 3:
        corners[1], corners[2] = corners[2], corners[1]
        assert crosses_itself(corners)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
TEXTS = st.sampled_from(["0", "rtsp://h/a", "http://u:p@h", "synthetic:", "a.mp4", "rtsp://"])
FIELDS = st.sampled_from([*SiteSource.__struct_fields__, "zones"])


@given(
    st.lists(st.dictionaries(FIELDS, TEXTS | VALUES, max_size=5), min_size=1, max_size=3),
    st.booleans(),
)
def test_any_entries_load_or_are_refused(tmp_path_factory, entries, complete):
    folder = tmp_path_factory.mktemp("site")
    if complete:  # so that the later checks are reached
        entries = [{"id": f"a{i}", "uri": "rtsp://h/a", **one} for i, one in enumerate(entries)]
    with suppress(ConfigError, UsageError, SourceError):
        loaded = site(folder, yaml.safe_dump({"sources": entries}, allow_unicode=True))
        assert len(loaded.specs()) == len(entries)


@given(
    st.binary(max_size=200)
    | st.text(alphabet="${}[]:,-&*!#@%'\" \nauri", max_size=60).map(str.encode)
)
def test_any_bytes_load_or_are_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("site") / "site.yaml"
    path.write_bytes(data)
    with pytest.raises((ConfigError, UsageError, SourceError)):
        load_site(path, {})

"""The page of a source in a real browser: what is drawn where, looking back, layers, keys."""

import json

import msgspec
import numpy as np
import pytest
from controlled_runs import camera, private_home, report, under_way
from event_logs import LEFT, RIGHT, logged, track_of
from hypothesis import given, settings
from hypothesis import strategies as st
from web_pages import HOSTILE, keep, opened, violations
from web_servers import serving
from web_video import HEADER, HEIGHT, JPEG, STEP_US, WIDTH, Video, box_of, picture_of

from streamvis.events.envelope import Event, FrameRef, Time, encode
from streamvis.events.log import FILE_NAME
from streamvis.events.source_events import Finish, SourceEof, SourceOnline, Stream
from streamvis.messages import Score
from streamvis.stages.actions.events import Action, ActionBegin
from streamvis.stages.forecast.events import ForecastScored, ForecastSegmentation, Outlook
from streamvis.stages.segment.events import Region, Scene, SceneUpdate, Unknown
from streamvis.stages.track.corrections import Corrections, corrected_tracks
from streamvis.stages.track.events import (
    Merge,
    Split,
    TrackBegin,
    TrackMerge,
    TrackSplit,
    TrackUpdate,
)
from streamvis.stages.zones.events import (
    Crossing,
    LineCross,
    Occupancy,
    OccupancyForecast,
    ZoneForecastMade,
    ZoneLayoutSet,
    ZoneState,
    ZoneUpdate,
)
from streamvis.viz.scene import COLOURS, palette_of
from streamvis.zone_layout import Line, Zone, ZoneLayout

LAYERS = ("boxes", "ids", "trails", "zones", "actions", "unknown", "masks", "plan")
PLACES = """() => {
  const canvas = document.getElementById("picture");
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const found = { white: [width, height, -1, -1], box: [width, height, -1, -1] };
  for (let at = 0; at < data.length; at += 4) {
    const [r, g, b] = data.subarray(at, at + 3);
    const one = r > 128 && g > 128 && b > 128 && r === g && g === b ? found.white
      : Math.hypot(r - 204, g - 121, b - 167) < 24 ? found.box : null;
    if (!one) continue;
    const [x, y] = [(at / 4) % width, Math.floor(at / 4 / width)];
    one.splice(0, 4, Math.min(one[0], x), Math.min(one[1], y),
      Math.max(one[2], x + 1), Math.max(one[3], y + 1));
  }
  return { ...found, scale: width / 640, mediaUs: Number(canvas.dataset.mediaUs) };
}"""  # where white pixels are, and those in the colour of track 4

COLOURS_AT = """(places) => places.map(([x, y]) => {
  const canvas = document.getElementById("picture");
  const scale = canvas.width / 640;
  const context = canvas.getContext("2d");
  return [...context.getImageData(x * scale, y * scale, 1, 1).data].slice(0, 3);
})"""  # at places in pixels of the source frame


def only(page, *names):
    """Have these layers drawn, and no others."""
    for name in LAYERS:
        page.locator(f"#layers [name={name}]").set_checked(name in names)


def assert_box_is_on_picture(page, n):
    found = page.evaluate(PLACES)
    assert found["mediaUs"] == STEP_US * n
    expected = [value * found["scale"] for value in box_of(n)]
    np.testing.assert_allclose(found["white"], expected, atol=2)
    outline = [*(np.array(expected[:2]) - 1), *(np.array(expected[2:]) + 1)]
    np.testing.assert_allclose(found["box"], outline, atol=1)


@pytest.fixture
def out(tmp_path):
    logged(tmp_path / FILE_NAME, "cam1", [(0, TrackBegin(track_of(4, LEFT)))])
    return tmp_path


@pytest.fixture
def live(out):
    """A run with two cameras that are online, and its web server."""
    with private_home(), under_way(camera("cam1"), camera("yard"), out=out) as run:
        run.reports["cam1"] = report("cam1", state="online", fps=25.0, label=HOSTILE)
        run.reports["yard"] = report("yard", state="offline", state_s=200.0, reason=HOSTILE)
        with serving(out) as client:
            yield f"http://{client.host}"


def watched(browser, live, complaints, path="/source?id=cam1", **options):
    page = opened(browser, f"{live}/reference", complaints, **options)
    video = Video(page)
    page.goto(live + path)
    page.locator("#state.online").wait_for()
    video.wait(lambda: video.sockets)
    return page, video


def test_boxes_are_drawn_on_the_picture_they_were_computed_from(browser, live):
    complaints = []
    page, video = watched(browser, live, complaints)
    only(page, "boxes")
    for n in range(12):
        sending = [lambda n=n: video.picture(n), lambda n=n: video.tracks(n)]
        for send in sending if n % 2 else reversed(sending):
            send()
            page.wait_for_timeout(10 * (n % 5))
        video.tracks(n, epoch=2, box=RIGHT)  # of another stream epoch
        video.wait(lambda n=n: n in video.acknowledged)
        assert_box_is_on_picture(page, n)
    assert video.acknowledged == list(range(12))
    assert not page.locator("#mark").is_visible()
    video.picture(12)  # its tracks do not come
    video.wait(lambda: 12 in video.acknowledged)
    assert page.locator("#mark").is_visible()
    assert page.evaluate(PLACES)["box"][2] == -1
    video.picture(13)  # overtaken while it waits
    video.picture(14)
    video.tracks(14)
    video.wait(lambda: 14 in video.acknowledged)
    assert_box_is_on_picture(page, 14)
    video.tracks(13)  # too late
    page.wait_for_timeout(50)
    assert_box_is_on_picture(page, 14)
    assert video.acknowledged == list(range(15))
    video.sockets[-1].close()
    video.wait(lambda: len(video.sockets) == 2)  # connected again
    video.tracks(3, epoch=2)  # numbers begin again in another stream epoch
    video.picture(3, epoch=2)
    video.wait(lambda: video.acknowledged[-1] == 3)
    assert_box_is_on_picture(page, 3)
    page.close()
    assert complaints == []


def test_messages_that_are_damaged_do_not_stop_the_pictures(browser, live):
    page, video = watched(browser, live, [])
    video.sockets[-1].send(b"short")
    video.sockets[-1].send(HEADER.pack(JPEG, 1, 0, 0, 0, 640, 480) + b"no JPEG")
    video.sockets[-1].send(HEADER.pack(9, 1, 0, 0, 0, 640, 480))
    said = {"kind": "state", "state": "waiting", "reason": HOSTILE, "without_tracks": ""}
    video.sockets[-1].send(json.dumps(said))
    page.locator("#notice", has_text=HOSTILE).wait_for()
    video.tracks(1)
    video.picture(1)
    video.wait(lambda: 1 in video.acknowledged)
    page.close()


def test_a_mask_is_drawn_on_its_picture_in_the_colours_of_its_classes(browser, live):
    complaints = []
    page, video = watched(browser, live, complaints)
    classes = np.zeros((24, 32), np.uint8)  # a twentieth of the picture's size
    classes[:, 16:] = 1
    classes[12:, 16:] = 77  # of no class
    for n in (1, 2):  # the mask comes before the picture, then after it
        sending = [
            lambda n=n: video.mask(n, classes, ["road", HOSTILE]),
            lambda n=n: video.picture(n),
        ]
        for send in sending if n == 1 else reversed(sending):
            send()
        video.tracks(n)
        video.wait(lambda n=n: n in video.acknowledged)
        page.locator("#classes li", has_text=HOSTILE).wait_for()
        only(page, "masks")
        colours = page.evaluate(COLOURS_AT, [[5, 240], [620, 20], [620, 470]])
        share = 0.45  # of the class's colour, over black
        expected = [*palette_of(["road", HOSTILE]), (0, 0, 0)]
        np.testing.assert_allclose(colours, np.array(expected) * share, atol=2)
    only(page)
    assert page.evaluate(COLOURS_AT, [[5, 240]]) == [[0, 0, 0]]
    page.locator("#classes").wait_for(state="hidden")
    page.close()
    assert complaints == []


def test_layers_keys_and_hostile_names(browser, live):
    complaints = []
    page, video = watched(browser, live, complaints)
    assert page.title() == "streamvis: cam1"
    page.get_by_label("trails").uncheck()
    page.get_by_label("boxes").focus()
    page.keyboard.press("Space")
    page.reload()
    page.locator("#state.online").wait_for()
    assert not page.get_by_label("trails").is_checked()
    assert not page.get_by_label("boxes").is_checked()
    assert page.get_by_label("zones").is_checked()
    video.tracks(2)
    video.picture(2)
    video.wait(lambda: 2 in video.acknowledged)
    assert page.evaluate(PLACES)["box"][2] > 0  # the plate of its id
    only(page)
    assert page.evaluate(PLACES)["box"][2] == -1  # drawn anew at once
    page.keyboard.press("f")
    page.wait_for_function("() => document.fullscreenElement?.id === 'stage'")
    page.keyboard.press("f")
    page.wait_for_function("() => document.fullscreenElement === null")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/source?id=yard")
    page.locator("#facts", has_text=HOSTILE).wait_for()
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**/source?id=cam1")
    page.keyboard.press("Escape")
    page.wait_for_url(f"{live}/")
    page.goto(f"{live}/source?id=%3Cimg%20src=x%20onerror=alert(1)%3E")
    page.locator("#notice", has_text="there are cam1, yard").wait_for()
    assert HOSTILE in page.locator("#name").inner_text()
    assert page.locator("img").count() == 0
    page.close()
    assert complaints == []


def test_an_event_leads_to_its_moment_and_keeps_the_focus_while_others_come(browser, live, out):
    page, _ = watched(browser, live, [])
    link = page.locator("#events a").first
    link.focus()
    whats = [(n, TrackUpdate(track_of(4, LEFT))) for n in range(1, 9)]
    logged(out / FILE_NAME, "cam1", [*whats, (9, TrackBegin(track_of(5, RIGHT)))], first=1)
    page.locator("#events li", has_text="cam1:1:5").wait_for()
    assert page.evaluate("document.activeElement.href") == f"{live}/source?id=cam1&at=0"
    page.locator("#events a").first.click()
    page.wait_for_url("**/source?id=cam1&at=360000")
    page.locator("#state", has_text="looking back").wait_for()
    shown_at(page, 9)
    page.close()


LAYOUT = ZoneLayout(
    zones=(
        Zone(name="door", polygon=((0.1, 0.4), (0.45, 0.4), (0.45, 0.95), (0.1, 0.95))),
        Zone(name="hall", polygon=((0, 0), (4, 0), (4, 3), (0, 3)), space="ground"),
    ),
    lines=(Line(name="gate", start=(0.55, 0.2), end=(0.55, 0.9)),),
)
FRAMES = 40


def walk():
    """A person of two ids, of which the first is merged into the second; all that pages show."""
    people = Occupancy(people=2, mean=2.125, sd=0.5, p_occupied=0.99)
    state = ZoneState(name="door", occupancy=people, longest_s=2.0, entries=3)
    shares = {"road": 0.625, "sky": 0.25, "car": 0.125}
    ahead = Outlook(horizon_us=600_000, target_us=600_000, classes={**shares, "car": 0.1875})
    score = Score(made_us=0, horizon_us=600_000, miou=0.75, accuracy=0.875)
    soon = OccupancyForecast(
        name="door", horizon_us=5_000_000, target_us=5_000_000, p_occupied=0.875, mean=1.75
    )
    fight = Action(label="fight", p=0.75, window_us=1, since_us=0, track="cam1:1:4")
    cross = Crossing(
        name="gate", track="cam1:1:4", direction="left_to_right", at_us=0, p=1.0, in_total=7,
        out_total=5,
    )  # fmt: skip
    region = Region(share=0.01, box_px=(500.0, 300.0, 600.0, 400.0), p=0.8)
    yield 0, SourceOnline(Stream(label="gate.mp4", w=WIDTH, h=HEIGHT, fps=25.0))
    yield 0, ZoneLayoutSet(LAYOUT)
    yield 0, LineCross(cross)
    for n in range(FRAMES):
        kind = TrackBegin if n in (0, 20) else TrackUpdate
        yield n, kind(track_of(3 if n < 20 else 4, box_of(n), ground=(n / 10, 1 + n / 40)))
        if n == 25:
            yield n, TrackMerge(Merge(gone="cam1:1:3", kept="cam1:1:4"))
        yield n, ZoneUpdate(state)
        yield n, ActionBegin(fight)
        yield n, SceneUpdate(Scene(classes=shares, unknown=Unknown(share=0.01, largest=region)))
        yield n, ForecastSegmentation(ahead)
        yield n, ForecastScored(score)
        yield n, ZoneForecastMade(soon)
    yield FRAMES - 1, SourceEof(Finish(FRAMES))


def pictures(page):
    """Answer requests for pictures as for a file of 25 frames/s."""

    def answer(route):
        n = int(route.request.url.rpartition("=")[2]) // STEP_US
        headers = {"X-Streamvis-Media-Us": str(n * STEP_US), "X-Streamvis-Size": "640x480"}
        route.fulfill(body=picture_of(n), content_type="image/jpeg", headers=headers)

    page.route("**/api/picture/**", answer)


@pytest.fixture
def ended(tmp_path):
    """A run that is over, and its web server."""
    logged(tmp_path / FILE_NAME, "cam1", list(walk()))
    with serving(tmp_path) as client:
        yield f"http://{client.host}"


def shown_at(page, n):
    page.locator(f'#picture[data-media-us="{n * STEP_US}"]').wait_for()


def test_looking_back_draws_the_logged_boxes_on_their_pictures(browser, ended):
    complaints = []
    page = opened(browser, f"{ended}/reference", complaints)
    pictures(page)
    page.goto(f"{ended}/source?id=cam1&at={6 * STEP_US}")
    shown_at(page, 6)
    only(page, "boxes")
    page.wait_for_function(f"() => ({PLACES})().box[2] > 0")
    assert_box_is_on_picture(page, 6)  # in the colour of the track into which it was merged later
    for key, n in [(".", 7), (".", 8), (",", 7)]:
        page.keyboard.press(key)
        shown_at(page, n)
        assert_box_is_on_picture(page, n)
    slider = page.get_by_label("media time")
    slider.fill(str(30 * STEP_US // 1000))
    shown_at(page, 30)
    assert_box_is_on_picture(page, 30)
    assert page.locator("#time").inner_text() == "00:00:01.200 / 00:00:01.560"
    page.keyboard.press("Space")
    shown_at(page, FRAMES - 1)  # played to its end
    page.get_by_role("button", name="Play").wait_for()
    assert_box_is_on_picture(page, FRAMES - 1)
    page.close()
    assert complaints == []


def test_forecasts_zones_and_the_plan_stand_beside_the_picture(axe, browser, ended):
    page = browser.new_page(bypass_csp=True)  # for the script of axe
    pictures(page)
    page.goto(f"{ended}/source?id=cam1&at={30 * STEP_US}")
    shown_at(page, 30)
    rows = page.locator("#forecasts tbody tr")
    rows.first.wait_for()
    assert [row.split("\t") for row in rows.all_inner_texts()] == [
        ["road", "62.5", "62.5"],
        ["sky", "25.0", "25.0"],
        ["car", "12.5", "18.8"],
        ["mIoU of the last", "", "0.75"],
        ["door", "2", "88 %, 1.8"],
    ]
    assert page.locator("#plan").is_visible()
    for width in (360, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 1080 if width == 1920 else 800})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(100)
            keep(page, f"source-{width}-{scheme}")
            assert violations(page, axe) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("checkbox", name="ground plan").uncheck()
    assert not page.locator("#plan").is_visible()
    page.close()


IDS = st.sampled_from([f"cam1:1:{number}" for number in range(1, 5)])
OBSERVED = st.builds(
    lambda id_, by, left: TrackUpdate(
        msgspec.structs.replace(track_of(1, (left, 0.0, left + 9, 20.0)), id=id_, box_from=by)
    ),
    IDS,
    st.sampled_from(["update", "predict"]),
    st.integers(0, 99).map(float),
)
CORRECTED = st.one_of(
    st.builds(lambda a, b: TrackMerge(Merge(gone=a, kept=b)), IDS, IDS),
    st.builds(
        lambda a, b, n: TrackSplit((Split(id=a, other=b, since_us=n * STEP_US),)),
        IDS,
        IDS,
        st.integers(0, 9),
    ),
)


@st.composite
def histories(draw):
    """Events of ten frames; in each, corrections come first and a track is there at most once."""
    events = []
    for n in range(10):
        whats = draw(st.lists(CORRECTED, max_size=2))
        whats += draw(st.lists(OBSERVED, max_size=4, unique_by=lambda what: what.track.id))
        for what in whats:
            offset = len(events)
            event = Event(
                id="x",
                source="cam1",
                epoch="e1",
                tseq=offset + 1,
                offset=offset,
                time=Time(media_us=STEP_US * n),
                frame=FrameRef(n=n, seq=n, w=WIDTH, h=HEIGHT, stream_epoch=1),
                what=what,
            )
            events.append(event)
    return events


def test_logged_tracks_are_corrected_as_the_library_corrects_them(browser, ended):
    page = opened(browser, f"{ended}/reference", [])
    script = """async (pages) => {
      const { Replay, TrackCorrections } = await import("/static/replay.js");
      return pages.map((events) => {
        const replay = new Replay("cam1");
        replay.corrections = new TrackCorrections(events);
        replay.fill(0, 400000, events);
        return Array.from({ length: 10 }, (_, n) => replay.tracksAt(n * 40000)
          .filter((track) => !track.between)
          .map((track) => [track.id, track.box_px])
          .sort());
      });
    }"""

    @settings(max_examples=10)
    @given(st.lists(histories(), min_size=1, max_size=20))
    def check(pages):
        wanted = []
        for events in pages:
            frames = [[] for _ in range(10)]
            for event, track in corrected_tracks(events, Corrections(events)):
                frames[event.frame.n].append([track.id, list(track.box_px)])
            wanted.append([sorted(frame) for frame in frames])
        sent = [[json.loads(encode(event)) for event in events] for events in pages]
        assert page.evaluate(script, sent) == wanted

    check()
    page.close()


def test_a_time_of_day_is_shown_where_pictures_have_one(browser, ended):
    page = opened(browser, f"{ended}/reference", [])
    script = """async (captured) => {
      const { Replay } = await import("/static/replay.js");
      const replay = new Replay("cam1");
      const times = [[0, 0], [40000, captured], [80000, 0]];
      replay.fill(0, 1000000, times.map(([media_us, capture_us], offset) => (
        { offset, type: "zone.dwell", time: { media_us, capture_us }, frame: null })));
      return replay.wallClock(100000);
    }"""
    captured = 1_790_000_000_000_000
    assert page.evaluate(script, captured) == (captured + 60_000) / 1000
    assert page.evaluate(script, 0) is None
    page.close()


NAMES = st.sampled_from([*COLOURS, *map(str, range(60)), "toString", "__proto__"])


def test_classes_have_the_colours_of_the_annotated_video(browser, ended):
    page = opened(browser, f"{ended}/reference", [])
    script = """async (lists) => {
      const { paletteOf } = await import("/static/class_colours.js");
      return lists.map(paletteOf);
    }"""

    @settings(max_examples=10)
    @given(st.lists(st.lists(NAMES, max_size=70, unique=True), min_size=1, max_size=20))
    def check(lists):
        wanted = [["#" + bytes(one).hex() for one in palette_of(names)] for names in lists]
        assert page.evaluate(script, lists) == wanted

    check()
    page.close()

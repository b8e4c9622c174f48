"""The zones page in a real browser: what is drawn is saved, comes into force, and counts."""

import json

import msgspec
import numpy as np
import pytest
from controlled_runs import camera, private_home, under_way
from event_logs import WALK, logged
from live_runs import running
from web_pages import HOSTILE, keep, opened, violations
from web_servers import serving, wait_for

from streamvis.config import read_zones
from streamvis.config.zones import zones_text
from streamvis.events.log import FILE_NAME
from streamvis.sources.spec import SourceSpec
from streamvis.synthetic.scene import Camera
from streamvis.zone_layout import Line, Zone, ZoneLayout

SIZE = (640, 480)  # of the pictures, by the log; there is none to draw on
SQUARE = ((0.25, 0.25), (0.5, 0.25), (0.5, 0.5), (0.25, 0.5))
DOOR = Zone(name="door", polygon=SQUARE, min_height=0.07, crowd=5, outside=True, enter_s=0.35)
GATE = Line(name="gate", start=(0.2, 0.75), end=(0.8, 0.75), min_p_exist=0.6)
LAYOUT = ZoneLayout(zones=(DOOR,), lines=(GATE,))
EXPECTED = ("409 (Conflict)", "400 (Bad Request)", "412 (Precondition Failed)")


@pytest.fixture
def run(tmp_path):
    """A run with a camera that has a zones file, and is not online."""
    logged(tmp_path / FILE_NAME, "gate", WALK[:1])
    path = tmp_path / "gate.zones.yaml"
    path.write_text(zones_text(LAYOUT))
    gate = camera("gate", zones=LAYOUT, zones_file=str(path))
    with private_home(), under_way(gate, out=tmp_path, zones=ZoneLayout()) as found:
        found.out, found.path = tmp_path, path
        yield found


@pytest.fixture
def client(run):
    with serving(run.out) as found:
        yield found


def zones_page(browser, client, complaints, source="gate", **options):
    page = opened(browser, f"http://{client.host}/zones?source={source}", complaints, **options)
    page.locator("#save").wait_for()
    page.locator("#kept:not(:empty)").wait_for()
    page.locator("#picture:enabled").wait_for()
    return page


def screen(page, x, y):
    """The place on the screen of a pixel of the source, once the page moves no more."""
    return page.evaluate(
        """async ([x, y]) => {
          const root = document.querySelector("#stage svg");
          const frame = () => new Promise(requestAnimationFrame);
          const place = () => new DOMPoint(x, y).matrixTransform(root.getScreenCTM());
          let before = place();
          await frame();
          for (let at = place(); at.x !== before.x || at.y !== before.y; at = place()) {
            before = at;
            await frame();
          }
          return [before.x, before.y];
        }""",
        [x, y],
    )


def click(page, x, y):
    page.mouse.click(*screen(page, x, y))


def drag(page, start, end):
    page.mouse.move(*screen(page, *start))
    page.mouse.down()
    page.mouse.move(*screen(page, *((a + b) / 2 for a, b in zip(start, end, strict=True))))
    page.mouse.move(*screen(page, *end))
    page.mouse.up()


def choose(page, name):
    page.locator("#shapes button", has_text=name).click()


def save(page):
    page.get_by_role("button", name="Save").click()
    page.locator("#kept", has_text="In force from the next frame on").wait_for()


def pixels(polygon, size=SIZE):
    return np.array(polygon) * size


def unexpected(complaints):
    return [text for text in complaints if not any(one in text for one in EXPECTED)]


def test_a_zone_that_is_drawn_with_the_mouse_is_saved_and_counts(browser, tmp_path):
    out, path, complaints = tmp_path / "out", tmp_path / "gate.zones.yaml", []
    path.write_text("zones: []\n")
    scene = "synthetic:walkers?people=2&seconds=600&fps=10&size=96x64&live=true"
    gate = SourceSpec(
        id="gate", uri=scene, kind="synthetic", zones=ZoneLayout(), zones_file=str(path)
    )
    with private_home(), running(out, gate, control=True, zones=True) as run:
        run.online("gate")
        with serving(out) as client:
            page = zones_page(browser, client, complaints)
            page.locator("#stage image[href^=blob]").wait_for(state="attached")
            assert page.locator("#stage svg").get_attribute("viewBox") == "0 0 96 64"
            page.get_by_role("button", name="Draw zone").click()
            corners = [(30, 20), (60, 20), (60, 50), (30, 50)]
            for corner in [*corners, corners[0]]:
                click(page, *corner)
            page.get_by_label("name", exact=True).fill("yard")
            page.locator("#zoom").dispatch_event("change")  # it draws while a name is typed
            assert page.get_by_label("name", exact=True).input_value() == "yard"
            page.get_by_label("name", exact=True).press("Tab")
            page.get_by_role("button", name="Draw line").click()
            drag(page, (10, 60), (90, 60))
            keep(page, "zones-drawn")
            save(page)
            assert str(path) in page.locator("#kept").inner_text()
            page.close()
        (zone,), (line,) = (layout := read_zones(path)).zones, layout.lines
        assert zone.name == "yard"
        np.testing.assert_allclose(pixels(zone.polygon, (96, 64)), corners, atol=0.3)
        ends = pixels((line.start, line.end), (96, 64))
        np.testing.assert_allclose(ends, [(10, 60), (90, 60)], atol=0.3)
        tenths = pixels(zone.polygon, (96, 64)) * 10
        np.testing.assert_allclose(tenths, tenths.round(), atol=1e-3)

        def of_type(name):
            return [event for event in run.events("gate") if event.type == name]

        run.wait(lambda: of_type("zone.enter"))
        assert of_type("zone.layout")[-1].what.zone == layout
        assert {event.what.zone.name for event in of_type("zone.enter")} == {"yard"}
        run.end()
    assert complaints == []


def test_what_is_saved_differs_only_in_what_was_changed(browser, client, run):
    complaints = []
    page = zones_page(browser, client, complaints)
    assert page.get_by_role("button", name="Save").is_disabled()
    choose(page, "door")
    drag(page, (320, 120), (350.04, 100))  # its second corner
    drag(page, (240, 180), (250, 200))  # all of it
    page.get_by_label("crowd", exact=True).fill("")
    page.get_by_label("dwell_s").fill("5, 20.5")
    page.get_by_label("dwell_s").press("Tab")
    choose(page, "gate")
    page.get_by_role("button", name="Exchange in and out").click()
    save(page)
    (door,), (gate,) = (layout := read_zones(run.path)).zones, layout.lines
    moved = [(170, 140), (360, 120), (330, 260), (170, 260)]
    np.testing.assert_allclose(pixels(door.polygon), moved, atol=0.8)
    assert door == msgspec.structs.replace(
        DOOR, polygon=door.polygon, crowd=None, dwell_s=(5.0, 20.5)
    )
    assert gate == msgspec.structs.replace(GATE, start=GATE.end, end=GATE.start)
    assert run.specs["gate"].zones == layout  # in force
    page.close()
    assert unexpected(complaints) == []


def test_every_change_is_undone_and_made_again(browser, client, run):
    page = zones_page(browser, client, [])
    choose(page, "door")
    drag(page, (320, 120), (350, 100))
    page.get_by_role("button", name="add a corner after corner 1").click()
    page.get_by_label("enter_s").fill("1")
    page.get_by_label("enter_s").press("Tab")
    page.get_by_role("button", name="Delete zone").click()
    assert page.locator("#shapes button").count() == 1
    for _ in range(4):
        page.get_by_role("button", name="Undo").click()
    assert page.get_by_role("button", name="Undo").is_disabled()
    assert page.get_by_role("button", name="Save").is_disabled()  # nothing differs
    for _ in range(3):
        page.get_by_role("button", name="Redo").click()
    save(page)
    (door,) = read_zones(run.path).zones
    assert (len(door.polygon), door.enter_s) == (5, 1.0)
    page.close()


def test_the_keyboard_is_enough(browser, client, run):
    page = zones_page(browser, client, [])
    keys = page.keyboard
    page.get_by_role("button", name="Draw zone").focus()
    keys.press("Enter")
    keys.press("Control+ArrowRight")  # from the middle, 320, 240
    keys.press("Space")
    for key in ("Control+ArrowDown", "Space", "Control+ArrowLeft", "Space", "Shift+ArrowUp"):
        keys.press(key)
    keys.press("Space")
    keys.press("Backspace")
    keys.press("Enter")
    np.testing.assert_equal(corners_of(page), [(420, 240), (420, 340), (320, 340)])
    for key in ("Tab", "Tab", "ArrowRight", "Shift+ArrowDown"):  # its second corner
        keys.press(key)
    name = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert name == "corner 2 of 3 of zone zone-1: x 421.0, y 350.0 px"
    keys.press("Insert")
    keys.press("Delete")
    page.locator("#shapes button", has_text="door").focus()
    keys.press("Enter")
    keys.press("ArrowLeft")  # all of it
    keys.press("ArrowLeft")
    keys.press("Control+z")  # both at once
    np.testing.assert_equal(corners_of(page)[0], (160, 120))
    keys.press("Control+y")
    keys.press("Escape")
    assert page.evaluate("document.activeElement.textContent").startswith("door")
    keys.press("Control+s")
    page.locator("#kept", has_text="In force").wait_for()
    door, new = read_zones(run.path).zones
    np.testing.assert_allclose(pixels(new.polygon), [(420, 240), (421, 350), (320, 340)], atol=0.01)
    np.testing.assert_allclose(pixels(door.polygon), pixels(SQUARE) - (2, 0), atol=0.01)
    page.close()


def test_a_click_chooses_what_lies_below_and_control_s_saves_what_is_being_typed(
    browser, client, run
):
    whole = Zone(name="whole", polygon=((0, 0), (1, 0), (1, 1), (0, 1)))
    inside = ZoneLayout(zones=(msgspec.structs.replace(DOOR, outside=False), whole))
    client.ask("PUT", "/api/zones/gate", msgspec.to_builtins(inside))
    page = zones_page(browser, client, [])
    titles = []
    for _ in range(3):
        click(page, 200, 200)  # in both
        titles.append(page.locator("#chosen-title").inner_text())
    assert titles == ["zone whole", "zone door", "zone whole"]
    click(page, 630, 200)
    assert page.locator("#chosen-title").inner_text() == "zone whole"
    page.get_by_label("exit_s").fill("2")
    page.keyboard.press("Control+s")
    page.locator("#kept", has_text="In force").wait_for()
    assert read_zones(run.path).zones[1] == msgspec.structs.replace(whole, exit_s=2.0)
    page.close()


def corners_of(page):
    values = page.locator("tbody input[id^=corner]").evaluate_all("all => all.map(o => +o.value)")
    return np.reshape(values, (-1, 2))


def test_what_is_wrong_is_said_at_the_shape_and_nothing_is_saved(browser, client, run):
    complaints, before = [], run.path.read_text()
    page = zones_page(browser, client, complaints)
    choose(page, "door")
    page.get_by_label("x of corner 1, px").fill("600")  # its edges cross
    page.get_by_label("x of corner 1, px").press("Tab")
    problem = page.locator("#problem")
    problem.filter(has_text="zone 'door' crosses or touches itself").wait_for()
    assert page.locator("#shapes button", has_text="door").locator(".wrong").count() == 1
    keep(page, "zones-wrong")
    page.get_by_role("button", name="Save").click()
    page.locator("#notice", has_text="crosses or touches itself").wait_for()
    page.get_by_role("button", name="Undo").click()
    problem.filter(has_not_text="crosses").wait_for(state="attached")
    for name in (HOSTILE, "Tür"):
        page.get_by_label("name", exact=True).fill(name)
        page.get_by_label("name", exact=True).press("Tab")
        page.locator("#field-name[aria-invalid=true]").wait_for()
        assert page.locator("#chosen-title").inner_text() == f"zone {name}"
    page.get_by_label("crowd_s").fill("soon")
    page.get_by_label("crowd_s").press("Tab")
    page.locator("#field-crowd_s-why", has_text="'soon': expected a number").wait_for()
    assert page.locator("img").count() == 0
    assert run.path.read_text() == before
    page.close()
    hostile = zones_page(browser, client, complaints, source="%3Cimg%20src=x%3E")
    assert hostile.locator("#source option:checked").inner_text() == "<img src=x>"
    hostile.close()
    assert [one for one in unexpected(complaints) if "404" not in one] == []


def test_zones_that_others_set_are_not_overwritten_unawares(browser, client, run):
    page = zones_page(browser, client, [])
    choose(page, "gate")
    page.get_by_role("button", name="Delete line").click()
    client.ask("PUT", "/api/zones/gate", {"zones": [], "lines": []})
    page.get_by_role("button", name="Save").click()
    page.locator("#notice", has_text="0 zones and 0 lines now").wait_for()
    page.get_by_role("button", name="Overwrite").click()
    page.locator("#kept", has_text="In force").wait_for()
    assert read_zones(run.path) == ZoneLayout(zones=(DOOR,))
    client.ask("PUT", "/api/zones/gate", msgspec.to_builtins(LAYOUT))
    choose(page, "door")
    page.get_by_role("button", name="Delete zone").click()
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Load theirs").click()
    page.locator("#shapes button", has_text="gate").wait_for()
    assert page.locator("#notice").is_hidden()
    assert read_zones(run.path) == LAYOUT
    page.close()


def test_zones_on_the_ground_are_drawn_and_moved_in_perspective(browser, tmp_path):
    logged(tmp_path / FILE_NAME, "scene", WALK[:1])
    polygon = ((-2.0, 6.0), (2.0, 6.0), (2.0, 10.0), (-2.0, 10.0))
    behind = ((0.0, -30.0), (1.0, -30.0), (1.0, -31.0))
    layout = ZoneLayout(
        zones=(
            Zone(name="kerb", polygon=polygon, space="ground"),
            Zone(name="behind", polygon=behind, space="ground"),
        )
    )
    uri = "synthetic:walkers?size=640x480"
    scene = SourceSpec(id="scene", uri=uri, kind="synthetic", zones=layout)
    eye = Camera(*SIZE)
    seen, _ = eye.project(np.column_stack([polygon, np.zeros(4)]))
    with private_home(), under_way(scene, out=tmp_path, zones=ZoneLayout()) as run:
        with serving(tmp_path) as client:
            page = zones_page(browser, client, [], source="scene")
            assert "until the run ends" in page.locator("#kept").inner_text()
            assert "not drawn" in page.locator("#shapes button", has_text="behind").inner_text()
            choose(page, "kerb")
            shown = page.locator("#stage [data-corner] circle:last-child").evaluate_all(
                "all => all.map(o => [+o.getAttribute('cx'), +o.getAttribute('cy')])"
            )
            np.testing.assert_allclose(shown, seen, atol=1e-6)
            keep(page, "zones-ground")
            page.locator("#more summary").click()
            for space, unit in (("image", "px"), ("ground", "m")):
                page.get_by_label("space").select_option(space)
                page.get_by_label(f"x of corner 1, {unit}").wait_for()
            back = [float(x) for x in corners_of(page).ravel()]
            np.testing.assert_allclose(np.reshape(back, (-1, 2)), polygon, atol=0.03)
            page.get_by_role("button", name="Undo").click()
            page.get_by_role("button", name="Undo").click()
            drag(page, seen[0], seen[0] + (-40, 20))
            save(page)
            page.close()
        kerb, kept = run.specs["scene"].zones.zones
        assert kept == layout.zones[1]
        assert kerb.polygon[1:] == polygon[1:]
        now, _ = eye.project(np.array([[*kerb.polygon[0], 0.0]]))
        np.testing.assert_allclose(now[0], seen[0] + (-40, 20), atol=1)


def test_without_a_run_zones_are_drawn_and_downloaded(browser, tmp_path):
    logged(tmp_path / FILE_NAME, "gate", WALK)
    complaints = []
    with serving(tmp_path) as client:
        page = zones_page(browser, client, complaints, accept_downloads=True)
        assert "The run is over" in page.locator("#kept").inner_text()
        page.get_by_role("button", name="Draw line").click()
        drag(page, (10, 10), (50, 20))
        assert page.get_by_role("button", name="Save").is_disabled()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download file").click()
        assert download.value.suggested_filename == "gate.zones.yaml"
        download.value.save_as(tmp_path / "made.yaml")
        page.close()
    (line,) = read_zones(tmp_path / "made.yaml").lines
    assert line.name == "line-1"
    assert unexpected(complaints) == []


def test_the_page_is_accessible_and_fits(axe, browser, client):
    for scheme in ("light", "dark"):
        page = zones_page(browser, client, [], bypass_csp=True, color_scheme=scheme)
        choose(page, "door")
        page.locator("#more summary").click()
        assert violations(page, axe) == []
        for width in (360, 1920):
            page.set_viewport_size({"width": width, "height": 900})
            keep(page, f"zones-{width}-{scheme}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()


def test_a_zone_is_drawn_by_touch(browser, client, run):
    phone = {"has_touch": True, "viewport": {"width": 360, "height": 740}}
    page = zones_page(browser, client, [], **phone)
    page.get_by_role("button", name="Draw zone").tap()
    for corner in [(100, 200), (500, 200), (300, 400)]:
        page.touchscreen.tap(*screen(page, *corner))
    page.get_by_role("button", name="Finish").tap()
    save(page)
    np.testing.assert_allclose(
        pixels(read_zones(run.path).zones[1].polygon), [(100, 200), (500, 200), (300, 400)], atol=4
    )
    page.close()


def test_every_setting_of_the_schema_has_a_field_and_unknown_ones_are_kept(browser, client):
    page = zones_page(browser, client, [])
    found = page.evaluate(
        """async (settings) => {
          const { fieldsOf, textOf, valueOf } = await import("/static/zone_fields.js");
          const { schemas } = await import("/static/zone_requests.js");
          const known = await schemas();
          return Object.fromEntries(["zone", "line"].map((kind) => [kind, fieldsOf(
            kind, known[kind], settings[kind],
          ).map((one) => [one.name, one.type, settings[kind][one.name],
            one.type === "flag" || one.type === "choice"
              ? settings[kind][one.name]
              : valueOf(one, textOf(one, settings[kind][one.name]))])]));
        }""",
        {
            "zone": {**msgspec.to_builtins(DOOR), "later": {"a": [1]}},
            "line": {**msgspec.to_builtins(GATE)},
        },
    )
    own = {"zone": {"polygon", "name"}, "line": {"start", "end", "name"}}
    for kind, shape in (("zone", DOOR), ("line", GATE)):
        names = {name for name, *_ in found[kind]}
        assert names - {"later"} == set(shape.__struct_fields__) - own[kind]
        assert all(value == back for _, _, value, back in found[kind])
        assert [name for name, type_, *_ in found[kind] if type_ == "json"] == (
            ["later"] if kind == "zone" else []
        )
    page.close()


def test_zones_of_others_are_shown_when_nothing_is_being_changed(browser, client):
    page = zones_page(browser, client, [])
    assert page.locator("#shapes button").count() == 2
    client.ask("PUT", "/api/zones/gate", json.loads('{"zones": [], "lines": []}'))
    wait_for(lambda: page.locator("#shapes button").count() == 0)
    page.close()

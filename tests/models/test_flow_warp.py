"""What comes from where, against scenes whose geometry is known, and things whose way is known."""

from typing import NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.models.flow_warp import (
    FlowFrame,
    extrapolate,
    flow_frame,
    scene_motion,
    warp_image,
)

GROUND, WALL, SKY, CAR, PERSON = range(5)
THINGS = np.array([False, False, False, True, True])
SIZE = (192, 256)  # height and width
MIDDLE = np.array([128.0, 96.0])
STRAIGHT = (0.0, 0.0, 0.0)


def extrapolated(flow, classes, movable, ahead):
    """Where everything comes from, by its flow and classes alone."""
    motion = scene_motion(flow, classes, movable)
    return extrapolate(motion, classes.shape, ahead)


def places(size=SIZE):
    """x and y of each px, (H, W, 2)."""
    return np.stack(np.indices(size, np.float32)[::-1], -1)


def seen(back):
    """What is known of px (H, W, 2) back in a step, as flow is: at half size, in its px."""
    even = np.pad(back, [(0, n % 2) for n in back.shape], mode="edge").astype(np.float32)
    return cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) / 2


def noise(cell, deviation):
    """Errors of flow, px of the picture, alike over cells of it."""
    size = (SIZE[0] // cell, SIZE[1] // cell, 2)
    each = np.random.default_rng(0).normal(scale=deviation / 2, size=size).astype(np.float32)
    return each.repeat(cell // 2, 0).repeat(cell // 2, 1)


def inside(box):
    """Which px have their middles in a box (left, top, right, bottom), of edges of px."""
    x, y = np.moveaxis(places() + 0.5, -1, 0)
    return (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


# ---- what stands: a street, of a ground, two walls and a sky

FOCAL = 1.5  # heights of a picture
EYE, ASIDE, TOP, FAR, SPEED = 1.5, 4.0, 3.0, 1e5, 0.3  # m


def cast(eye, rays):
    """The points (H, W, 3) m of the street that rays from an eye meet, and their classes."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ground = np.where(rays[..., 1] > 0, (EYE - eye[1]) / rays[..., 1], FAR)
        wall = (np.sign(rays[..., 0]) * ASIDE - eye[0]) / rays[..., 0]
    wall = np.where(np.isfinite(wall) & (eye[1] + wall * rays[..., 1] > -TOP), wall, FAR)
    far = np.minimum(np.minimum(ground, wall), FAR)
    classes = np.select([far == FAR, ground < wall], [SKY, GROUND], WALL).astype(np.uint8)
    return eye + far[..., None] * rays, classes


def screw(focus, turn, speed, steps, focal):
    """Rotation and translation of points over steps of a drive, composed of many small ones."""
    x, y, z = turn
    vx, vy, vz = speed * np.array([*focus / focal, 1.0])
    once = np.array([[0, -z, y, vx], [z, 0, -x, vy], [-y, x, 0, vz], [0, 0, 0, 0]])
    whole = np.linalg.matrix_power(np.eye(4) + once * steps / 2**20, 2**20)
    return whole[:3, :3], whole[:3, 3]


def drive(focus, turn, ahead=0.0, size=SIZE, speed=SPEED):
    """The flow of a step of a drive, its classes, and where that is which comes `ahead` later.

    focus: px from the corner, of the translation; turn: rad a step, of pitch, yaw and roll.
    """
    focal, middle = FOCAL * size[0], np.array(size[::-1]) / 2
    rays = np.dstack([(places(size) - middle) / focal, np.ones(size)])

    def seen_at(points):
        return middle + focal * points[..., :2] / points[..., 2:]

    now, classes = cast(np.zeros(3), rays)
    rotation, way = screw(focus - middle, turn, speed, 1.0, focal)
    flow = seen(seen_at(now @ rotation.T + way) - places(size))
    rotation, way = screw(focus - middle, turn, speed, -ahead, focal)
    later, _ = cast(-rotation.T @ way, rays @ rotation)
    return flow, classes, seen_at(later)


def errors(source, truth, where=True):
    """px, of all whose source was in the picture."""
    known = ((truth >= 0) & (truth < source.shape[1::-1])).all(-1) & where
    return np.linalg.norm(source - truth, axis=-1)[known]


def assert_near(found, median=0.6, most=1.2):
    assert np.median(found) < median
    assert np.percentile(found, 90) < most


@pytest.mark.parametrize("ahead", [0.5, 1, 2, 3])
@pytest.mark.parametrize(
    ("focus", "turn", "speed"),
    [
        ((30, -20), (0, 0, 0), SPEED),
        ((20, -15), (0, -0.05, 0), SPEED),
        ((0, 0), (0, 0.1, 0), SPEED),
        ((-25, 10), (0, 0, 0), -SPEED / 2),
    ],
)
def test_a_drive_goes_on_as_its_geometry_says(focus, turn, speed, ahead):
    size = (189, 251)  # of no whole cells
    flow, classes, truth = drive(MIDDLE + focus, turn, ahead, size, speed)
    assert_near(found := errors(extrapolated(flow, classes, THINGS, ahead), truth))
    if ahead == 3 and speed > 0:  # by as many px in each step, it soon would be far off
        linear = errors(places(size) + ahead * 2 * cv2.resize(flow, size[::-1]), truth)
        assert np.percentile(found, 90) < np.percentile(linear, 90) / 2


def test_a_drive_goes_on_though_it_is_seen_badly():
    flow, classes, truth = drive(MIDDLE, STRAIGHT, 3)
    assert_near(errors(extrapolated(flow + noise(8, 0.7), classes, THINGS, 3), truth), 0.9, 1.9)


def test_what_no_drive_explains_goes_on_as_it_is():
    flow, classes, truth = drive(MIDDLE, STRAIGHT, 2)
    flow[36:64, 92:124] = (0, -3)  # down, across what is seen to move to the right there
    source = extrapolated(flow, classes, THINGS, 2)
    assert_near(errors(source, truth, ~inside((168, 40, 256, 160))), 0.7, 1.5)
    assert_near(errors(source, places() - (0, 12), inside((198, 92, 234, 114))), 3.5, 4.5)


@pytest.mark.parametrize(("yaw", "ahead"), [(0.02, 3), (-0.05, 1), (0.08, 2)])
def test_a_turn_alone_goes_on(yaw, ahead):
    flow, classes, truth = drive(MIDDLE, (0, yaw, 0), ahead, speed=0.0)
    assert_near(errors(extrapolated(flow, classes, THINGS, ahead), truth))


def test_a_nod_does_not_go_on():
    flow, classes, _ = drive(MIDDLE, (0.03, 0, 0), speed=0.0)
    assert_near(errors(extrapolated(flow, classes, THINGS, 3), places()))


def test_what_stands_before_a_nodding_camera_stays():
    """A thing is as little on its way as the street when the picture moves up."""
    flow, classes, _ = drive(MIDDLE, (0.03, 0, 0), speed=0.0)
    classes[inside((100, 80, 140, 110))] = CAR
    assert_near(errors(extrapolated(flow, classes, THINGS, 3), places()))


def test_parked_cars_in_a_row_go_as_the_street_does():
    flow, classes, truth = drive(MIDDLE, STRAIGHT, 2, speed=4 * SPEED)
    classes[88:112] = CAR  # down one side, across and up the other
    assert_near(errors(extrapolated(flow, classes, THINGS, 2), truth, classes == CAR))


@pytest.mark.parametrize("focus", [MIDDLE, np.array([158.0, 86.0])])
def test_what_is_parked_goes_as_the_street_does(focus):
    flow, classes, truth = drive(focus, (0, 0.004, 0), 3, speed=2 * SPEED)
    cars = inside((16, focus[1] + 4, 88, focus[1] + 40)) & (classes == WALL)
    classes[cars] = CAR  # along a wall, from near to far
    found = errors(
        extrapolated(flow, classes, THINGS, 3), truth, inside((0, focus[1] + 8, 60, 150))
    )
    assert_near(found, 1.5, 4)


def test_who_walks_before_a_standing_camera_goes_as_a_whole_however_limbs_swing():
    classes, walker = np.full(SIZE, GROUND, np.uint8), inside((40, 60, 80, 140))
    classes[walker] = PERSON
    swing = np.indices(SIZE).sum(0) // 8 % 2 * 2.0 - 1  # in stripes, to and fro
    back = np.stack([-12 + 9 * swing, 6 * swing], -1) * walker[..., None]
    later = warp_image(classes, extrapolated(seen(back), classes, THINGS, 3)) == PERSON
    assert overlap(later, inside((76, 60, 116, 140))) > 0.95


def test_a_large_thing_is_not_what_stands():
    flow, classes, truth = drive(MIDDLE, STRAIGHT, 2)
    classes[32:176, 16:144] = CAR
    flow[16:88, 8:72] = (-3, 1)
    source = extrapolated(flow, classes, THINGS, 2)
    assert_near(errors(source, truth, ~inside((0, 0, 180, 192))), 0.7, 1.5)


# ---- what moves by itself: things of three dimensions before a ground that stands


class Thing(NamedTuple):
    """A board that faces the camera."""

    index: int
    at: tuple[float, float, float]  # m, to the right, down and ahead
    size: tuple[float, float]  # m
    velocity: tuple[float, float, float] = (0, 0, 0)  # m a step

    def box(self, ahead=0.0):
        """left, top, right and bottom, px from the corner of the picture."""
        x, y, z = np.add(self.at, np.multiply(ahead, self.velocity))
        middle, half = 200 * np.array([x, y]) / z + MIDDLE, 200 * np.array(self.size) / z / 2
        return np.concatenate([middle - half, middle + half])


def stage(*things, ahead=0.0):
    """Classes of things as they are seen `ahead` steps later, and the flow of a step until then."""
    classes, back = np.full(SIZE, GROUND, np.uint8), np.zeros((*SIZE, 2))
    for thing in sorted(things, key=lambda thing: -thing.at[2] - ahead * thing.velocity[2]):
        now, before = (thing.box(t).reshape(2, 2) for t in (ahead, ahead - 1))
        own = inside(now.ravel())
        x = places()[own] + 0.5
        was = before[0] + (x - now[0]) / (now[1] - now[0]) * (before[1] - before[0])
        classes[own], back[own] = thing.index, was - x
    return classes, seen(back)


def later(*things, ahead):
    classes, flow = stage(*things)
    return warp_image(classes, extrapolated(flow, classes, THINGS, ahead))


@pytest.mark.parametrize("ahead", [1, 2, 3])
@pytest.mark.parametrize(
    "thing",
    [
        Thing(CAR, (-2, 0, 10), (3, 2.4), (0.35, 0.1, 0)),
        Thing(CAR, (-1.5, 0.3, 10), (3, 2.4), (0.2, 0, -0.8)),
        Thing(CAR, (-1, 0.1, 6), (3, 2.4), (0.2, 0, 1)),
        Thing(CAR, (-1.13, 0.31, 9.7), (3.1, 2.37), (0.21, 0.03, -0.7)),
        Thing(CAR, (-2.4, -0.6, 10), (2.4, 1.6), (0.5, 0.1, -2)),
        Thing(PERSON, (-1.13, 0.31, 9.7), (0.6, 1.8), (0.21, 0.03, -0.2)),
    ],
)
def test_a_thing_goes_on_and_leaves_nothing_behind(thing, ahead):
    found = later(thing, ahead=ahead)
    there = inside(thing.box(ahead))
    assert overlap(found == thing.index, there) > (0.93 if thing.index == CAR else 0.8)
    around = cv2.dilate(there.astype(np.uint8), np.ones((7, 7))) > 0
    assert (found[~around] == GROUND).all()


@pytest.mark.parametrize(("near", "far"), [(CAR, PERSON), (PERSON, CAR)])
def test_what_comes_up_quicker_is_in_front(near, far):
    coming = Thing(near, (-1.5, 0, 8), (2, 2), (0.4, 0, -0.8))
    behind = Thing(far, (1.5, 0.2, 12), (3, 2.4), (-0.1, 0, 0))
    truth, _ = stage(coming, behind, ahead=3)
    assert (truth == far).sum() < 0.8 * inside(behind.box(3)).sum()  # else nothing would be told
    found = later(coming, behind, ahead=3)
    assert overlap(found == near, truth == near) > 0.93
    assert overlap(found == far, truth == far) > 0.9


@pytest.mark.parametrize("other", [CAR, PERSON])  # beside it, and touching
def test_things_go_their_own_ways(other):
    one = Thing(CAR, (-2, 0, 10), (2, 2), (-0.3, 0.3, 0))
    two = Thing(other, (2 if other == CAR else 0, 0, 10), (2, 2), (0.3, 0, 0.5))
    truth, _ = stage(one, two, ahead=2)
    found = later(one, two, ahead=2)
    for index in (CAR, other):
        assert overlap(found == index, truth == index) > 0.93


def test_what_leaves_the_picture_is_gone():
    thing = Thing(CAR, (-4, 0, 10), (2, 2), (-1.2, 0, 0))
    assert (later(thing, ahead=1) == CAR).any()
    assert (later(thing, ahead=3) == GROUND).all()


def test_what_a_thing_uncovers_is_what_is_beside_it():
    thing = Thing(CAR, (-4, 0, 10), (2, 2), (1.5, 0, 0))
    classes, flow = stage(thing)
    classes[(classes != CAR) & inside((0, 0, 90, 192))] = WALL
    found = warp_image(classes, extrapolated(flow, classes, THINGS, 3))
    assert (found[inside(thing.box()) & ~inside(thing.box(3))] == WALL).all()


def test_a_thing_is_a_whole_though_it_is_seen_badly():
    thing = Thing(CAR, (-2.1, 0.3, 10), (3, 2.4), (0.6, 0, -0.5))
    classes, flow = stage(thing)
    found = warp_image(classes, extrapolated(flow + noise(4, 1.25), classes, THINGS, 2)) == CAR
    assert overlap(found, inside(thing.box(2))) > 0.9


def test_what_comes_from_far_out_is_the_edge():
    flow = seen(np.broadcast_to((2e5, 0), (*SIZE, 2)))
    found = warp_image(places()[..., 0], extrapolated(flow, stage()[0], THINGS, 3))
    assert (found == SIZE[1] - 1).all()


# ---- whatever there is to be seen

SIZES = [(192, 256), (97, 131), (16, 16), (17, 9), (3, 5), (1, 1)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [0, 0.5, 1])  # of things
def test_what_does_not_move_stays(size, share):
    x = np.random.default_rng(0).random(size)
    classes = np.where(x < share, CAR, GROUND).astype(np.uint8)
    for flow in (None, seen(np.zeros((*size, 2)))):
        source = extrapolated(flow, classes, THINGS, 3)
        assert (source.shape, source.dtype) == ((*size, 2), np.int16)
        np.testing.assert_array_equal(source, places(size))


def test_there_may_be_more_things_than_are_told_apart():
    classes = np.where((places() % 12 < 8).all(-1), CAR, GROUND).astype(np.uint8)  # 352 cars
    flow = seen(np.broadcast_to((-5, 0), (*SIZE, 2)))
    found = warp_image(classes, extrapolated(flow, classes, THINGS, 1))
    assert (found[:, 8:] == classes[:, 3:-5]).mean() > 0.94


@st.composite
def scenes(draw):
    size = draw(st.sampled_from(SIZES))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    coarse = rng.integers(0, 5, (17, 22)).astype(np.uint8)
    classes = coarse.repeat(12, 0)[: size[0]].repeat(12, 1)[:, : size[1]]
    flow = rng.normal(size=(-(-size[0] // 2), -(-size[1] // 2), 2))
    return (flow * draw(st.sampled_from([0.1, 10, 300, 1e6]))).astype(np.float32), classes


@settings(max_examples=40)
@given(scenes(), st.sampled_from([0.5, 1, 3, 20]))
def test_whatever_moves_comes_from_somewhere(scene, ahead):
    flow, classes = (x.copy() for x in scene)
    source = extrapolated(flow, classes, THINGS, ahead)
    assert np.isin(warp_image(classes, source), classes).all()
    now = extrapolated(flow, classes, THINGS, 0)
    np.testing.assert_array_equal(warp_image(classes, now), classes)
    kept, source[:] = source.copy(), -1  # it is the caller's
    np.testing.assert_array_equal(extrapolated(*scene, THINGS, ahead), kept)
    np.testing.assert_array_equal(flow, scene[0])
    np.testing.assert_array_equal(classes, scene[1])


def test_pictures_are_carried_and_their_edges_go_on():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    padded = np.pad(picture, ((0, 4), (3, 0), (0, 0)), mode="edge")
    source = places((20, 30)) + np.float32((-3, 4))
    np.testing.assert_array_equal(warp_image(picture, source), padded[4:, :30])
    half = warp_image(picture, places((20, 29)) + np.float32((0.5, 0)), cv2.INTER_LINEAR)
    np.testing.assert_allclose(half, picture[:, 1:] / 2 + picture[:, :-1] / 2, rtol=0, atol=1)


# ---- flow


def film(*corners, times=1):
    """Pictures, so many times SIZE, cut from one texture at the corners (x, y) given."""
    height, width = SIZE[0] * times, SIZE[1] * times
    whole = np.random.default_rng(0).random((height + 60, width + 60, 3)).astype(np.float32)
    whole = cv2.GaussianBlur(whole, (0, 0), 4 * times)
    whole = cv2.normalize(whole, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return [whole[y : y + height, x : x + width].copy() for x, y in corners]


@pytest.mark.parametrize("times", [1, 2])  # as large as it is worked on
def test_flow_tells_where_things_were(times):
    earlier, pixels = film((50, 50), (42, 56), times=times)
    first = flow_frame(earlier, None, SIZE)
    flow = flow_frame(pixels, first, SIZE).flow
    assert (first.flow, flow.shape, flow.dtype) == (None, (96, 128, 2), np.float32)
    assert_near(np.abs(times * flow[16:-16, 16:-16] - (-4, 3)), 0.2, 0.5)


def test_what_is_seen_goes_on_as_it_was_seen_to_move():
    last = None
    for pixels in film((50, 50), (44, 50), (38, 50)):
        last = flow_frame(pixels, last, SIZE)
    source = extrapolated(last.flow, stage()[0], THINGS, 2)
    assert_near(np.abs(source - places() - (-12, 0))[32:-32, 32:-32], 0.5)


def test_flow_begins_where_the_last_ended():
    x = places()[..., :1].repeat(3, -1)
    # 20 px to the right of waves of 32, or as well 12 to the left
    first, second = (np.uint8(127 + 99 * np.sin(2 * np.pi / 32 * (x - at))) for at in (0, 20))
    grey = flow_frame(first, None, SIZE).grey
    for told in (-10, 6):
        last = np.full((96, 128, 2), (told, 0), np.float32)
        flow = flow_frame(second, FlowFrame(grey, last), SIZE).flow
        assert np.median(flow[..., 0]) == pytest.approx(told, abs=0.5)


def test_a_glimpse_is_of_its_pictures_only():
    pictures = film((50, 50), (45, 53), (41, 55))
    second = flow_frame(pictures[1], flow_frame(pictures[0], None, SIZE), SIZE)
    kept = second.grey.copy(), second.flow.copy()
    third = flow_frame(pictures[2], second, SIZE)
    flow_frame(pictures[0], third, SIZE)  # nor of what was seen between
    pictures[1][:] = 0
    for x, was in zip(second, kept, strict=True):
        np.testing.assert_array_equal(x, was)
    np.testing.assert_array_equal(flow_frame(pictures[2], second, SIZE).flow, third.flow)


def test_what_is_kept_is_grey_and_of_half_the_size():
    primaries = 255 * np.eye(3, dtype=np.uint8)[None]
    small = flow_frame(primaries, None, (2, 6))
    assert small.grey.tolist() == [[76, 150, 29]]  # Rec. 601
    odd = flow_frame(primaries, small, (97, 131))
    assert (odd.grey.shape, odd.flow) == ((49, 66), None)  # of another size, it is a first one

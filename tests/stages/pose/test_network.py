"""The shipped network sees a drawn mannequin fall, and walkers in a drawn street walk.

It was trained on photographs: of falls in all directions it misses some, along the view most. These
are across the view.
"""

import mannequin
import numpy as np
import pytest
from factories import packet, source, tracks

from streamvis.messages import Packet
from streamvis.models.weights import shipped
from streamvis.stages.pose import PoseEstimation
from streamvis.stages.pose.deriver import PoseDeriver
from streamvis.stages.pose.events import PostureBegin
from streamvis.stages.pose.stage import PoseStage
from streamvis.stages.protocol import Site
from streamvis.synthetic.backdrop import backdrop
from streamvis.synthetic.body import pose
from streamvis.synthetic.scene import simulate

pytestmark = pytest.mark.skipif("pose-lite" not in shipped(), reason="pose-lite is not shipped")
FPS, DOWN_S = 5, 1.8
CONFIG = PoseEstimation(engine="torch", precision="fp32")
SIZE = (640, 480)


@pytest.fixture(scope="module")
def street() -> np.ndarray:
    return backdrop(mannequin.CAMERA, 1)


@pytest.fixture
def watch(street, one_thread):
    pictures: dict[int, np.ndarray] = {}
    stage = PoseStage(CONFIG, Site(device="cpu", pixels=lambda frame: pictures[frame.n]))

    def watched(scene) -> list[tuple[float, str]]:
        """The begins of postures in frames of people by id: when, and which."""
        info, rng, found = source("a", ground_plane=mannequin.CAMERA.homography), _rng(), []
        stage.begin(info, None)
        deriver = PoseDeriver(CONFIG, info, None)
        for n, people in enumerate(scene):
            drawn = mannequin.drawn(list(people.values()), picture=street)
            noise = 2 * rng.standard_normal(drawn.shape, np.float32)
            noisy = np.clip(drawn + noise, 0, 255)
            pictures[n] = noisy.astype(np.uint8)
            one = packet(n, tracked(people), fps=FPS, size=SIZE)
            (part,) = stage([one])
            events = deriver.derive(Packet(frame=one.frame, parts=[*one.parts, part]))
            for draft in events.drafts:
                if isinstance(draft.what, PostureBegin):
                    found.append((n / FPS, draft.what.posture.label))
        return found

    return watched


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def tracked(people):
    boxes = {id_: np.clip(mannequin.box_of(one), 0, [*SIZE, *SIZE]) for id_, one in people.items()}
    there = sorted(id_ for id_, box in boxes.items() if (box[2:] - box[:2]).min() > 4)
    return tracks(there, np.array([boxes[id_] for id_ in there]).reshape(-1, 4))


@pytest.mark.parametrize("towards", [0.0, np.pi])
def test_a_fall_across_the_view_is_one_posture_within_a_second(watch, towards):
    def scene():
        for n in range(5 * FPS):
            share = np.clip((n / FPS - DOWN_S + 0.8) / 0.8, 0, 1) ** 2
            who = mannequin.person(1)
            yield {1: mannequin.fallen(who, share, towards=towards, heading=towards)}

    ((seconds, label),) = watch(scene())
    assert label == "fallen"
    assert DOWN_S - 0.5 < seconds <= DOWN_S + 1


def test_walkers_have_not_fallen(watch):
    walks = simulate(5, 3, 20, mannequin.CAMERA)
    scene = (
        {
            walk.person.id: mannequin.posed(walk.person, pose(walk.person, state))
            for walk in walks
            if (state := walk.at(n / FPS)) is not None
        }
        for n in range(20 * FPS)
    )
    assert "fallen" not in [label for _, label in watch(scene)]

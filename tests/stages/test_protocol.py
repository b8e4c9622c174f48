"""What settings of a kind state, what follows from it, and what a stage gets from its site."""

import subprocess
import sys
from typing import ClassVar

import pytest
from factories import kind_with_defaults

from streamvis.config import Forecaster, Jipda, MaskRcnn, Publish, Record, Segment
from streamvis.errors import ConfigError
from streamvis.messages import Part, Receipt, Tracks
from streamvis.stages import KINDS
from streamvis.stages.protocol import (
    Parts,
    Site,
    StageConfig,
    has_events,
    has_overlay,
    kind_name,
    part_name,
)


class Plain(StageConfig, frozen=True, tag="plain"):
    """A kind that states only what it reads."""

    reads: ClassVar[Parts] = frozenset({Tracks})


def test_a_kind_need_not_state_the_defaults():
    kind = Plain()
    assert (kind.writes, kind.stateful, kind.torch) == (Receipt, False, False)
    assert (kind.uses(Jipda()), kind.uses(MaskRcnn())) == (True, False)
    assert not has_events(kind)
    assert not has_overlay(kind)
    assert kind.missing([]) is None
    assert kind.examine_files() is None
    with pytest.raises(NotImplementedError, match="Plain has no `build`"):
        kind.build(Site(device="cpu", pixels=lambda frame: None))


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_a_kind_with_events_has_their_types_and_a_deriver(kind):
    assert has_events(kind_with_defaults(kind)) == (kind.event_types() is not None)
    assert has_events(kind_with_defaults(kind)) == (kind.deriver is not StageConfig.deriver)


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_parts_have_names(kind):
    parts: list[type[Part]] = [*kind.reads, *kind.may_read, kind.writes]
    assert all(part_name(part).islower() for part in parts)


def test_publish_gets_what_has_events_and_record_what_is_drawn():
    assert [kind for kind in KINDS if Publish().uses(kind_with_defaults(kind))] == [
        kind for kind in KINDS if kind.event_types() is not None
    ]
    assert [kind for kind in KINDS if Record().uses(kind_with_defaults(kind))] == [
        kind for kind in KINDS if has_overlay(kind_with_defaults(kind))
    ]


def test_what_is_lent_is_borrowed_by_its_type():
    site = Site(device="cpu", pixels=lambda frame: None, lent="features")
    assert site.borrow(str) == "features"
    with pytest.raises(ConfigError, match="no stage of this worker lends int"):
        site.borrow(int)
    assert Segment().lends is Forecaster().borrows


def test_settings_load_neither_networks_nor_drawing():
    code = (
        "import sys, streamvis.config; "
        "print([name for name in ('torch', 'cv2', 'av', 'zmq') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

import uuid

from hypothesis import given
from hypothesis import strategies as st

from streamvis.events.envelope import epoch_us, event_id, new_epoch

EPOCH = "01999c82-3d00-7a54-b1d5-0c6d2a7f9e11"


@given(st.integers(0, 2**53), st.integers(0, 2**62), st.sampled_from(["cam1", "cam10"]))
def test_an_event_has_one_id_and_it_is_a_version_7_uuid(time_us, offset, source):
    name = event_id(EPOCH, source, offset, time_us)
    assert name == event_id(EPOCH, source, offset, time_us)
    assert (uuid.UUID(name).version, uuid.UUID(name).variant) == (7, uuid.RFC_4122)
    assert epoch_us(name) // 1000 == time_us // 1000 % 2**48


def test_run_source_and_offset_all_tell_events_apart():
    ids = {
        event_id(epoch, source, offset, 5)
        for epoch in (EPOCH, new_epoch())
        for source in ("cam1", "cam10")
        for offset in range(100)
    }
    assert len(ids) == 400


def test_epochs_differ_and_what_is_no_epoch_has_no_time():
    assert new_epoch() != new_epoch()
    assert epoch_us("") == 0

import msgspec
from event_logs import END, LEFT, SWAP, track_of
from hypothesis import given
from hypothesis import strategies as st

from streamvis.events.envelope import Event, Time, encode
from streamvis.events.snapshot import SourceState, fold
from streamvis.events.source_events import Change, SourceConnecting, SourceOnline, Stream
from streamvis.messages import Score
from streamvis.stages import event_codec
from streamvis.stages.actions.events import Action, ActionBegin, ActionEnd, EndedAction
from streamvis.stages.forecast.events import ForecastScored, ForecastSegmentation, Outlook
from streamvis.stages.segment.events import Scene, SceneUpdate
from streamvis.stages.track.events import TrackBegin, TrackEnd, TrackSplit, TrackUpdate

IDENTITIES = event_codec().identities
ONLINE = SourceOnline(Stream(label="gate", w=640, h=480))


def payload_of(what, offset, epoch="e1", tseq=None):
    event = Event(
        id=f"{epoch}/{offset}",
        source="cam1",
        epoch=epoch,
        tseq=offset + 1 if tseq is None else tseq,
        offset=offset,
        time=Time(media_us=offset),
        what=what,
    )
    return encode(event)


def payloads_of(whats, epoch="e1", first=0):
    return [payload_of(what, offset, epoch) for offset, what in enumerate(whats, start=first)]


def state_of(payloads):
    state = SourceState()
    for payload in payloads:
        fold(state, payload, IDENTITIES)
    return state


def kept(payloads):
    return [event_codec().decode(one).what for one in state_of(payloads).events()]


def track(number):
    return track_of(number, LEFT)


def ended(number):
    return TrackEnd(msgspec.structs.replace(END.track, id=f"cam1:1:{number}"))


def action(kind, number, label="fight"):
    common = {"label": label, "p": 0.5, "window_us": 1, "since_us": 0, "track": f"cam1:1:{number}"}
    if kind is ActionEnd:
        return ActionEnd(EndedAction(**common, p_max=0.5, reason="over"))
    return kind(Action(**common))


def outlook(horizon_us, target_us=0):
    return ForecastSegmentation(Outlook(horizon_us=horizon_us, target_us=target_us, classes={}))


def test_a_track_is_open_from_its_begin_to_its_end():
    begins = [TrackBegin(track(1)), TrackBegin(track(2)), TrackBegin(track(3))]
    whats = [*begins, TrackUpdate(track(1)), TrackSplit(SWAP), ended(2)]
    assert kept(payloads_of(whats)) == [begins[2], TrackUpdate(track(1))]


def test_the_last_status_and_the_last_size_of_a_source_are_kept():
    connecting = SourceConnecting(Change("lost"))
    assert kept(payloads_of([connecting, ONLINE])) == [ONLINE]
    assert kept(payloads_of([ONLINE, SourceConnecting(Change("x")), connecting])) == [
        *(ONLINE, connecting)
    ]


def test_actions_scenes_and_forecasts():
    fight, fall = action(ActionBegin, 1), action(ActionBegin, 1, "fall")
    score = ForecastScored(Score(made_us=0, horizon_us=600_000, miou=0.5, accuracy=0.5))
    whats = [fight, fall, SceneUpdate(Scene(classes={"sky": 1.0})), outlook(600_000), outlook(1)]
    whats += [SceneUpdate(Scene(classes={})), outlook(600_000, 7), score, action(ActionEnd, 1)]
    assert kept(payloads_of(whats)) == [fall, outlook(1), *whats[5:8]]


def test_another_run_begins_anew_and_what_comes_again_changes_nothing():
    first = payloads_of([ONLINE, TrackBegin(track(1))])
    state = state_of([*first, *first])
    assert (state.offset, state.tseq, len(state.latest)) == (1, {"source": 1, "track": 2}, 3)
    state = state_of([*first, *payloads_of([TrackBegin(track(2))], epoch="e2", first=2)])
    assert (state.epoch, state.offset, state.tseq) == ("e2", 2, {"track": 3})
    assert [event_codec().decode(one).what.track.id for one in state.events()] == ["cam1:1:2"]


def test_types_that_are_not_known_are_kept_by_their_names():
    payload = payload_of(ONLINE, 0).replace(b"source.online", b"door.begin")
    state = state_of([payload.replace(b'"stream"', b'"door"')])
    assert len(state.events()) == 1
    end = payload_of(ONLINE, 1).replace(b"source.online", b"door.end")
    fold(state, end.replace(b'"stream"', b'"door"'), IDENTITIES)
    assert state.events() == []
    fold(state, payload_of(ONLINE, 2).replace(b"source.online", b"door.end"), {})
    assert state.offset == 2


numbers = st.integers(1, 4)
whats = st.one_of(
    st.builds(lambda n: TrackBegin(track(n)), numbers),
    st.builds(lambda n: TrackUpdate(track(n)), numbers),
    st.builds(ended, numbers),
    st.builds(action, st.sampled_from([ActionBegin, ActionEnd]), numbers),
    st.builds(outlook, st.integers(0, 2)),
    st.just(ONLINE),
    st.just(SourceConnecting(Change("lost"))),
    st.just(TrackSplit(SWAP)),
)


@given(st.lists(whats, max_size=40), st.data())
def test_a_snapshot_and_the_events_after_it_make_the_state_of_all_events(whats, data):
    payloads = payloads_of(whats)
    at = data.draw(st.integers(0, len(payloads)))
    snapshot = state_of(payloads[:at])
    joined = SourceState()
    for payload in [*snapshot.events(), *payloads[at:]]:
        fold(joined, payload, IDENTITIES)
    assert joined.latest == state_of(payloads).latest
    resumed = msgspec.msgpack.decode(msgspec.msgpack.encode(snapshot), type=SourceState)
    for payload in payloads[at:]:
        fold(resumed, payload, IDENTITIES)
    assert resumed == state_of(payloads)

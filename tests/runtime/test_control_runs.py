"""Runs that are changed while they go on: their sources come and go, and nobody else notices."""

import os
import signal
import threading
import time
from contextlib import closing, contextmanager

import msgspec
import pytest
from controlled_runs import private_home
from feed_processes import RawPeer
from test_launch import balanced, chain, logs, run, source, undisturbed, workers
from waiting import until

from streamvis.config import Jipda, MaskRcnn, Pipeline, Publish, Site, StageSpec
from streamvis.errors import RunError, StreamvisError, UsageError
from streamvis.events.export import jsonl
from streamvis.events.feed import read_announcement
from streamvis.events.log import LogReader
from streamvis.runtime import control_client, launch
from streamvis.runtime.control import Add, GetStatus, Reload, Remove, Restart
from streamvis.runtime.control_client import find_run
from streamvis.runtime.control_socket import ControlSettings
from streamvis.sources.shard import ALL, Shard
from streamvis.sources.spec import SourceSpec

PLACEMENT = workers(["detect"], ["track", "publish"])


def camera(name, **options):
    """A live source that has a picture every 20 ms, for ever."""
    options = {"live": "1", "pause": "0.02", **options}
    return SourceSpec(id=name, uri="toy:100000", kind="url", options=options)


@pytest.fixture(autouse=True)
def home():
    with private_home():
        yield


class Operator:
    """What a person does with a run, from another thread; the run ends when they have done it."""

    def __init__(self, out, acts):
        self.out = out
        self.acts = acts
        self.failure = None
        self._thread = threading.Thread(target=self._work)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _work(self):
        try:
            until(lambda: (self.out / "control.json").exists())
            self.acts(self)
        except (AssertionError, StreamvisError) as error:
            self.failure = error
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    def ask(self, request):
        return control_client.ask(find_run(str(self.out)), request)

    def source(self, name):
        found = {s.id: s for s in self.ask(GetStatus()).status.sources}
        return found.get(name)

    def until_state(self, name, state):
        until(lambda: (s := self.source(name)) is not None and s.state == state)


def lines(out, name):
    path = out / f"publish-{name}.log"
    return path.read_text().splitlines() if path.exists() else []


def serve(out, acts, sources, site=None, shard=ALL, **settings):
    """A service on these sources, which ends when the operator has acted."""
    with Operator(out, acts):
        return run(
            chain(),
            PLACEMENT,
            sources,
            out,
            serve=True,
            control=ControlSettings(pipeline="toys", site=site, shard=shard),
            **settings,
        )


def test_a_source_joins_and_the_others_lose_no_frame(tmp_path):
    film = source("film", 200, pause=0.02)

    def acts(operator):
        until(lambda: len(lines(out, "film")) > 20)
        operator.ask(Add(camera("dock")))
        operator.ask(Add(source("short", 5)))
        until(lambda: epochs(out, "dock"))  # a frame has arrived
        with pytest.raises(UsageError, match="'dock' already"):
            operator.ask(Add(camera("dock")))
        operator.until_state("short", "ended")
        operator.ask(Remove("dock"))
        operator.until_state("dock", "ended")
        operator.until_state("film", "ended")

    out = tmp_path / "many"
    reports = balanced(serve(out, acts, [film]))
    alone = undisturbed(chain(), [film, source("short", 5)], tmp_path / "one")
    assert {name: text for name, text in logs(out).items() if "dock" not in name} == alone
    assert (reports["film"].admitted, reports["film"].ending) == (200, "eof")
    assert (reports["short"].admitted, reports["short"].ending) == (5, "eof")
    assert (reports["dock"].ending, reports["dock"].reason) == ("drained", "removed")
    assert reports["dock"].admitted > 0
    assert lines(out, "dock")[-1] == "end drained"


def epochs(out, name):
    """The stream epochs of the frames of a source, in order."""
    found = [line.split()[3] for line in lines(out, name) if line[0].isdigit()]
    return sorted(set(found), key=found.index)


def test_a_restart_and_a_second_life_are_stream_epochs_of_their_own(tmp_path):
    def acts(operator):
        until(lambda: epochs(out, "gate") == ["1"])
        operator.ask(Restart("gate"))
        until(lambda: epochs(out, "gate") == ["1", "2"])
        until(lambda: operator.source("gate").reconnects == 1)
        operator.ask(Remove("gate"))
        operator.ask(Add(camera("gate")))  # at once: it begins when the former has ended
        until(lambda: epochs(out, "gate") == ["3"])  # the toy's log begins anew
        with pytest.raises(UsageError, match="no source 'yard'"):
            operator.ask(Restart("yard"))

    out = tmp_path / "out"
    balanced(serve(out, acts, [camera("gate")]))


def test_the_event_log_tells_of_each_life_of_a_source(tmp_path):
    """Of a camera that was removed and added again: one stream of events, without a gap."""

    def acts(operator):
        for _ in range(2):
            until(lambda: (s := operator.source("gate")).state == "online" and s.admitted > 20)
            operator.ask(Remove("gate"))
            operator.until_state("gate", "ended")
            operator.ask(Add(camera("gate")))
            until(lambda: operator.source("gate").state != "ended")

    logged = Pipeline(
        stages=[
            StageSpec("detect", MaskRcnn()),
            StageSpec("track", Jipda(), after=["detect"]),
            StageSpec("publish", Publish(bind=None), after=["track"]),
        ]
    )
    with Operator(tmp_path, acts):
        launch.run(
            *(logged, PLACEMENT, [camera("gate")]),
            build="toys:build_logged",
            open_source="toys:open_toy",
            out=tmp_path,
            serve=True,
            control=ControlSettings(),
        )
    with LogReader(tmp_path / "events.db") as reader:
        events = [msgspec.json.decode(row) for row in jsonl(reader.latest("gate"))]
    assert [event["offset"] for event in events] == list(range(len(events)))
    assert len({event["id"] for event in events}) == len(events)
    kinds = [event["type"] for event in events if event["type"].startswith("source.")]
    assert kinds.count("source.offline") >= 2
    assert kinds.count("source.online") >= 2
    times = [event["time"]["emit_us"] for event in events]
    assert times == sorted(times)


def test_a_service_goes_on_without_sources(tmp_path):
    def acts(operator):
        operator.until_state("short", "ended")
        time.sleep(1.2)
        assert [s.id for s in operator.ask(GetStatus()).status.sources] == ["short"]
        operator.ask(Add(source("late", 3)))
        operator.until_state("late", "ended")

    reports = balanced(serve(tmp_path, acts, [source("short", 3)]))
    assert {name: report.admitted for name, report in reports.items()} == {"short": 3, "late": 3}


@contextmanager
def site_file(path, monkeypatch):
    """A sources file whose sources are toys: `load_site` reads ids and settings of its own."""
    refused = []

    def load(where):
        specs = []
        for line in path.read_text().split():
            name, _, pause = line.partition("=")
            if name == "torn":
                refused.append(where)
                raise UsageError(f"{where}: torn")
            specs.append(camera(name, pause=pause))
        return Site(path, tuple(specs))

    monkeypatch.setattr("streamvis.runtime.control_socket.load_site", load)
    yield load, refused


def test_sighup_has_the_file_read_again_and_one_with_errors_changes_nothing(
    tmp_path, monkeypatch, capfd
):
    def acts(operator):
        running = ["gate", "yard", "hall"]
        for name in running:
            operator.until_state(name, "online")
        path.write_text("gate=0.02 torn")
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: refused)
        path.write_text("gate=0.02 yard=0.01 dock=0.02")
        os.kill(os.getpid(), signal.SIGHUP)
        operator.until_state("dock", "online")
        operator.until_state("hall", "ended")
        until(lambda: epochs(out, "yard") == ["1", "2"])
        assert epochs(out, "gate") == ["1"]
        path.write_text("gate=0.02 yard=0.01 hall=0.02")
        assert str(operator.ask(Reload())) == "added hall; removed dock"
        until(lambda: epochs(out, "hall") == ["2"])

    out, path = tmp_path / "out", tmp_path / "site"
    path.write_text("gate=0.02 yard=0.02 hall=0.02")
    with site_file(path, monkeypatch) as (load, refused):
        site = load(path)
        summary = serve(out, acts, site.specs(), site)
    assert "torn" in capfd.readouterr().err
    assert summary.interrupted == "SIGTERM"
    reports = balanced(summary)
    assert [reports[name].epoch for name in ("gate", "yard", "hall", "dock")] == [1, 2, 2, 1]


def test_a_file_that_is_read_again_changes_the_sources_of_the_shard_alone(tmp_path, monkeypatch):
    """A run whose share is empty at first; sources of the other shard come, change and go."""
    share = Shard(2, 3)
    names = [f"cam{n}" for n in range(30)]
    (stays, goes, comes, *_), others = (
        [name for name in names if share.has(name) == mine] for mine in (True, False)
    )

    def reload(operator, *listed):
        path.write_text(" ".join(listed))
        return str(operator.ask(Reload()))

    def acts(operator):
        until(lambda: (out / "run.json").exists())
        assert operator.ask(GetStatus()).status.sources == []
        first = [f"{name}=0.02" for name in (stays, goes, *others[:2])]
        assert reload(operator, *first) == f"added {stays}, {goes}"
        for name in (stays, goes):
            operator.until_state(name, "online")
        assert reload(operator, *first, f"{others[2]}=0.02") == "nothing has changed"
        path.write_text(f"{stays}=0.02 {comes}=0.02 {others[1]}=0.01")
        os.kill(os.getpid(), signal.SIGHUP)
        operator.until_state(comes, "online")
        operator.until_state(goes, "ended")
        assert operator.ask(GetStatus()).status.shard == "2/3"

    out, path, statuses = tmp_path / "out", tmp_path / "site", []
    path.write_text(f"{others[0]}=0.02")
    with site_file(path, monkeypatch) as (load, _):
        site = load(path)
        summary = serve(
            *(out, acts, share.among(site.specs()), site, share), on_status=statuses.append
        )
    reports = balanced(summary)
    assert sorted(reports) == sorted([stays, goes, comes])
    assert [reports[name].epoch for name in (stays, goes, comes)] == [1, 1, 1]
    assert reports[goes].reason == "removed"
    assert {status.shard for status in statuses} == {summary.shard} == {"2/3"}


def test_clients_that_die_and_messages_that_are_none_do_not_disturb_a_run(tmp_path):
    import zmq

    def acts(operator):
        socket = find_run(str(out)).socket
        for number in range(30):
            context = zmq.Context()
            client = context.socket(zmq.DEALER)
            client.setsockopt(zmq.LINGER, 0)
            client.connect(f"ipc://{socket}")
            client.send_multipart([b"junk", b"%d" % number])
            client.poll(20)
            client.close(linger=0)
            context.term()
        assert operator.source("film").id == "film"
        operator.until_state("film", "ended")

    out = tmp_path / "out"
    summary = serve(out, acts, [source("film", 100, pause=0.01)])
    assert balanced(summary)["film"].admitted == 100
    assert summary.refused_messages > 0


def test_the_status_counts_whom_the_feed_refuses_also_while_no_frame_arrives(tmp_path):
    pipeline = Pipeline(
        [
            StageSpec("detect", MaskRcnn()),
            StageSpec("track", Jipda(), after=["detect"]),
            StageSpec("publish", Publish(bind="tcp://127.0.0.1:*"), after=["track"]),
        ]
    )

    def refused(operator):
        return operator.ask(GetStatus()).status.refused_clients

    def refused_once_more(operator, endpoint):
        """A connection that libzmq ends before it is looked at is not counted."""
        with closing(RawPeer(endpoint)) as rude:
            rude.send(b"\7neither a subscription nor its end")
            deadline = time.monotonic() + 3
            while not (found := refused(operator)) and time.monotonic() < deadline:
                time.sleep(0.05)
        assert set(found) <= {"malformed"}
        return {"malformed": 0, **found}

    def acts(operator):
        operator.until_state("film", "ended")
        endpoint = read_announcement(tmp_path).endpoint
        for count in (1, 2):
            until(lambda count=count: refused_once_more(operator, endpoint)["malformed"] >= count)

    with Operator(tmp_path, acts):
        launch.run(
            pipeline,
            PLACEMENT,
            [source("film", 3)],
            build="toys:build_logged",
            open_source="toys:open_toy",
            out=tmp_path,
            serve=True,
            control=ControlSettings(pipeline="toys"),
        )


def test_nothing_of_the_control_is_left_when_a_run_has_ended(tmp_path):
    def acts(operator):
        operator.until_state("film", "ended")

    serve(tmp_path, acts, [source("film", 3)])
    assert not (tmp_path / "control.json").exists()
    with pytest.raises(RunError, match="no run is under way there"):
        find_run(str(tmp_path))


def test_a_camera_that_is_given_up_fails_alone(tmp_path):
    def acts(operator):
        operator.until_state("absent", "ended")
        assert "given up" in operator.source("absent").reason
        operator.until_state("gate", "online")

    cameras = [camera("absent", refuse="1"), camera("gate")]
    reports = balanced(serve(tmp_path, acts, cameras, give_up_s=0.5))
    assert reports["absent"].ending == "failed"
    assert reports["gate"].ending == "drained"

"""Live pictures are measured on a real run, without a browser here."""

from streamvis.benchmarks import web, web_run
from streamvis.sources.spec import SourceSpec


def test_the_scene_goes_on_for_ever_without_a_leap(monkeypatch):
    monkeypatch.setattr(web_run, "SECONDS", 0.5)
    monkeypatch.setattr(web_run, "FPS", 50.0)
    monkeypatch.setattr(web_run, "SIZE", (64, 48))
    source = web_run.SceneAgain(SourceSpec(id="cam", uri="scene", kind="url"))
    pictures = [picture for picture, _ in zip(source, range(60), strict=False)]
    assert [one.n for one in pictures] == list(range(60))
    assert [one.media_us for one in pictures] == [20_000 * n for n in range(60)]
    times = [one.capture_us for one in pictures]
    assert times == sorted(times)
    forwards = [one.pixels.tobytes() for one in pictures[:25]]
    assert [one.pixels.tobytes() for one in pictures[24:49]] == forwards[::-1]


def test_the_cost_of_viewers_is_measured(monkeypatch):
    monkeypatch.setattr(web, "SETTLE_S", 0.1)
    monkeypatch.setattr(web, "PHASE_S", 0.5)
    monkeypatch.setattr(web, "ROUNDS", 1)
    with web._run() as out, web._serving(out) as server:
        report = web.decoding(out, server)
    times = [report.ms_without_viewer, report.ms_with_one, report.ms_with_four]
    assert all(0 <= ms < 1000 for ms in times)

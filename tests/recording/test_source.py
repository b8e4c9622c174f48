"""The recordings of an open source: while its pictures are decoded, and although they are not."""

import sys
from pathlib import Path

import pytest
from packet_streams import encoded, greys, packets_of, recordings

sys.path.append(str(Path(__file__).parents[1]))
import numpy as np
from rtsp_server import Camera, encode_film, serving

from streamvis.recording.settings import Clips, Recording, Segments
from streamvis.sources import SourceSpec, open_source


def spec_of(uri: str, out: Path, *, kind="file", **settings) -> SourceSpec:
    record = Recording(**(settings or {"segments": Segments(2)}))
    return SourceSpec(id="cam1", uri=uri, kind=kind, record=record, record_to=str(out))


def test_a_file_is_recorded_while_it_is_decoded(tmp_path):
    film = encoded(tmp_path / "in.mp4")
    source = open_source(spec_of(str(film), tmp_path))
    assert sum(1 for _ in source) == 50
    source.close()
    source.close()
    assert greys(recordings(tmp_path)) == greys([film])
    assert source.recorder.recorded_bytes == sum(
        path.stat().st_size for path in recordings(tmp_path)
    )


def test_without_an_output_directory_nothing_is_recorded(tmp_path):
    film = encoded(tmp_path / "in.mp4")
    spec = SourceSpec(id="a", uri=str(film), kind="file", record=Recording(segments=Segments()))
    source = open_source(spec)
    assert source.recorder is None
    source.close()


def test_parts_of_a_transport_stream_are_recorded_one_after_the_other(tmp_path):
    """Another camera was plugged in: another program map, another size."""
    first = encoded(tmp_path / "a.ts")
    second = encoded(tmp_path / "b.ts", size=(160, 128))
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    source = open_source(spec_of(str(both), tmp_path))
    pictures = sum(1 for _ in source)
    source.close()
    assert sum(len(packets_of(path)) for path in recordings(tmp_path)) == pictures == 100
    assert greys(recordings(tmp_path)) == greys([first]) + greys([second])


@pytest.mark.parametrize("late", [0, 25])
def test_clips_of_a_camera_have_what_was_seen_around_the_event(tmp_path, late):
    """Each picture is a grey that tells its number; the event is derived `late` pictures later."""
    pictures = [np.full((64, 96, 3), 30 + 2 * n, np.uint8) for n in range(100)]
    film = encode_film(pictures, fps=50, key_every=20)
    clips = Clips(["track.begin"], before_s=0.5, after_s=0.5)
    with serving(Camera(films=[film], fps=50)) as server:
        spec = spec_of(server.url, tmp_path, kind="url", clips=clips)
        source = open_source(spec)
        at_us = {}
        cut = None
        for count, picture in enumerate(source):
            number = round((picture.pixels.mean() - 30) / 2)
            if count < 95:
                at_us[number] = picture.media_us
            if number == 60 + late and cut is None:
                cut = at_us[60]
                source.recorder.cut("cam1:1:9", "track.begin", cut)
            saved = source.recorder.saved()
            if saved:
                break
        source.close()
    ((event, path),) = saved
    assert event == "cam1:1:9"
    numbers = [round((grey - 30) / 2) for grey in greys([tmp_path / path])]
    seen = [number for number in range(len(pictures)) if number in numbers]
    wanted = [n for n, us in at_us.items() if cut - 500_000 <= us <= cut + 500_000]
    assert set(wanted) <= set(seen)
    assert len(numbers) <= len(wanted) + 20 + 25 + 10
    assert numbers[0] % 20 == 0


def test_a_camera_that_is_lost_leaves_whole_files(tmp_path):
    film = encode_film([np.full((64, 96, 3), 100, np.uint8)] * 50, fps=50, key_every=10)
    with serving(Camera(films=[film], fps=50)) as server:
        source = open_source(spec_of(server.url, tmp_path, kind="url"))
        count = 0
        for count, _ in enumerate(source):
            if count == 60:
                server.kill()
        assert source.ended in {"lost", "timeout"}
        source.close()
    assert len(greys(recordings(tmp_path))) >= count - 10

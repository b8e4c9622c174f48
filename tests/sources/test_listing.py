"""What is listed, and what is passed over."""

from pathlib import Path

import pytest

from streamvis.sources import listing, resolve


def made(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.mark.parametrize("mark", ["summary.json", "run.json", "events.db"])
def test_annotated_videos_of_earlier_runs_are_no_recordings(mark, tmp_path):
    """The results may lie among the recordings."""
    out = tmp_path / "out/gate-0123456789ab"
    made(tmp_path / "gate.mp4", tmp_path / "annotated.mp4", out / mark, out / "gate.mp4")
    drawn = [out / name for name in ("annotated.mp4", "annotated.1.mp4", "annotated-gate.mp4")]
    made(*drawn)
    kept = {str(tmp_path / "gate.mp4"), str(tmp_path / "annotated.mp4"), str(out / "gate.mp4")}
    assert {spec.uri for spec in resolve([str(tmp_path)], recursive=True)} == kept
    assert {spec.uri for spec in resolve([f"{tmp_path}/**/*.mp4"])} == kept
    assert [spec.uri for spec in resolve([str(drawn[0])])] == [str(drawn[0])]  # as it is named


def test_a_directory_that_cannot_be_listed_is_told_and_the_others_are(
    tmp_path, monkeypatch, capsys
):
    made(tmp_path / "a/1.mp4", tmp_path / "b/2.mp4")

    def entries(folder: Path) -> list[Path]:
        if folder.name == "a":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    real = listing.entries
    monkeypatch.setattr(listing, "entries", entries)
    assert list(listing.folders(tmp_path)) == [tmp_path, tmp_path / "b"]
    assert (
        f"directory '{tmp_path / 'a'}' cannot be read: Permission denied" in capsys.readouterr().err
    )

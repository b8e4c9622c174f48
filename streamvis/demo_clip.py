"""The clip that `streamvis demo` runs on, and a contact sheet of the annotated video."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from streamvis.files import drafted, sha256_of

if TYPE_CHECKING:
    from streamvis.messages import Array

SHA256 = "45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf"  # of vtest.avi
URL = "https://raw.githubusercontent.com/opencv/opencv/4.x/samples/data/vtest.avi"
SYNTHETIC = "synthetic:walkers?people=6&seconds=20&fps=10&size=768x576&seed=7"
TIMEOUT_S = 20
SHEET = 8  # pictures on the contact sheet

Report = Callable[[str], None]  # receives lines for the person at the terminal


def find_clip(report: Report) -> str:
    """Return OpenCV's vtest.avi (PETS09-S2L1), fetched if need be, else a synthetic scene."""
    if root := os.environ.get("STREAMVIS_DATA"):
        path = Path(root) / "mot/pets09-s2l1/video.avi"
        if path.is_file() and _is_clip(path):
            return str(path)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "streamvis"
    path = cache / "vtest.avi"
    if path.is_file() and _is_clip(path):
        return str(path)
    cache.mkdir(parents=True, exist_ok=True)
    for name, fetch in (
        ("OpenCV's repository", _from_opencv),
        ("Debian's opencv-doc", _from_debian),
    ):
        report(f"fetching vtest.avi from {name} …")
        if fetch(path, report) and _is_clip(path):
            return str(path)
        path.unlink(missing_ok=True)
    report("vtest.avi is not to be had here; showing a synthetic scene instead")
    return SYNTHETIC


def _is_clip(path: Path) -> bool:
    return sha256_of(path) == SHA256


def _from_opencv(path: Path, report: Report) -> bool:
    import urllib.error
    import urllib.request

    try:
        with (
            drafted(path) as draft,
            urllib.request.urlopen(URL, timeout=TIMEOUT_S) as reply,
            draft.open("wb") as file,
        ):
            shutil.copyfileobj(reply, file)
    except (urllib.error.URLError, OSError) as error:
        report(f"  not there: {getattr(error, 'reason', error)}")
        return False
    return True


def _from_debian(path: Path, report: Report) -> bool:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        report("  this is no Debian")
        return False
    from streamvis.transport.sockets import temporary_root

    with tempfile.TemporaryDirectory(dir=temporary_root()) as folder:
        for command in (["apt-get", "download", "opencv-doc"], ["sh", "-c", "dpkg-deb -x *.deb ."]):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                report(f"  {command[0]} failed: {last}; `apt-get update` may help")
                return False
        found = next(Path(folder).rglob("vtest.avi"), None)
        if found is None:
            report("  opencv-doc holds no vtest.avi")
            return False
        shutil.copyfile(found, path)
    return True


def contact_sheet(video: Path, path: Path) -> None:
    """Write evenly spaced pictures of the video as one PNG."""
    import cv2

    from streamvis.sources import open_source, resolve
    from streamvis.viz.contact_sheet import contact_sheet as arrange

    (spec,) = resolve([str(video)])
    source = open_source(spec)
    try:
        count = source.info.frames or sum(1 for _ in source)
    finally:
        source.close()
    wanted = {round((i + 0.5) * count / SHEET) for i in range(SHEET)}
    source = open_source(spec)
    kept: list[Array] = []
    times: list[str] = []
    try:
        for picture in source:
            if picture.n in wanted:
                kept.append(picture.pixels.copy())
                times.append(f"{picture.media_us / 1e6:.1f} s")
    finally:
        source.close()
    sheet = arrange(kept, 2, times)
    cv2.imwrite(str(path), sheet[..., ::-1])

"""Writer of a scene as a MOTChallenge folder: video or images, ground truth, ground plane."""

import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from streamvis.synthetic.render import SceneTruth, SyntheticScene

MIN_VISIBILITY = 0.1  # people less visible than this are marked as not to be scored (conf 0)


def write_sequence(folder: Path, scene: SyntheticScene, *, images: bool = False) -> Path:
    """Write `scene` into `folder` in the layout of MOT15 and return the folder.

    `video.mp4` or `img1/000001.jpg …`; `gt/gt.txt` with world metres in columns 8-10;
    `seqinfo.ini`; `ground_plane.json`.
    """
    (folder / "gt").mkdir(parents=True, exist_ok=True)
    if images:
        _write_images(folder / "img1", scene)
    else:
        _write_video(folder / "video.mp4", scene)
    rows = [row for n in range(scene.frames) for row in _rows(n, scene.truth(n))]
    (folder / "gt" / "gt.txt").write_text("".join(f"{row}\n" for row in rows))
    (folder / "seqinfo.ini").write_text(_seqinfo(folder.resolve().name, scene, images=images))
    plane = np.array(scene.homography).reshape(3, 3).tolist()
    note = "maps (x+w/2, y+h) in pixels to ground-plane metres; exact"
    text = json.dumps({"image_foot_to_world_m": plane, "note": note}, indent=1)
    (folder / "ground_plane.json").write_text(text)
    return folder


def _write_images(folder: Path, scene: SyntheticScene) -> None:
    folder.mkdir(exist_ok=True)
    for n in range(scene.frames):
        picture = cv2.cvtColor(scene.picture(n), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"{n + 1:06}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])


def _write_video(path: Path, scene: SyntheticScene) -> None:
    width, height = scene.camera.width, scene.camera.height_px
    with av.open(path, "w") as container:
        rate = Fraction(scene.fps).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
        for n in range(scene.frames):
            frame = av.VideoFrame.from_ndarray(scene.picture(n), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _rows(n: int, truth: SceneTruth) -> list[str]:
    rows = []
    for i, id in enumerate(truth.ids):
        left, top, right, bottom = truth.boxes[i]
        conf = int(truth.visibility[i] >= MIN_VISIBILITY)
        x, y = truth.ground[i]
        box = f"{left:g},{top:g},{right - left:g},{bottom - top:g}"
        rows.append(f"{n + 1},{id},{box},{conf},{x:.4f},{y:.4f},0")
    return rows


def _seqinfo(name: str, scene: SyntheticScene, *, images: bool) -> str:
    pictures = "imDir=img1\nimExt=.jpg" if images else "video=video.mp4"
    return (
        f"[Sequence]\nname={name}\n{pictures}\nframeRate={scene.fps:g}\nseqLength={scene.frames}\n"
        f"imWidth={scene.camera.width}\nimHeight={scene.camera.height_px}\n"
    )

# %% [markdown]
# # Detect and track people in a clip, and plot their paths
#
#     python docs/tutorials/detect_and_track.py [VIDEO [OUT]]
#
# Without a video, a rendered street scene is used. Two pictures are written into OUT. It needs
# Matplotlib, which `pip install '.[eval]'` in the project's directory brings.

# %%
import sys
from collections import defaultdict
from pathlib import Path

import cv2
import matplotlib

matplotlib.use("Agg")  # draw into files, also on a machine without a display
from matplotlib import pyplot

import streamvis

SCENE = "synthetic:walkers?people=3&seconds=4&fps=10&size=320x240&seed=5"
video = sys.argv[1] if len(sys.argv) > 1 else SCENE
out = Path(sys.argv[2] if len(sys.argv) > 2 else "tutorial")
out.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# `stream` runs the pipeline `people` in this process: detector, appearance embeddings, camera motion
# and tracker. Each packet has the pixels of a frame (RGB) and what the stages found in it. The foot
# point of a box, the middle of its lower edge, is where the person stands.

# %%
Points = list[tuple[float, float]]  # x, y, px
paths: dict[int, Points] = defaultdict(list)  # track id -> foot points
for packet in streamvis.stream(video, pipeline="people"):
    last = packet
    if packet.tracks is None:  # as in a pipeline without a tracker
        continue
    for track, (x1, _, x2, y2) in zip(packet.tracks.ids, packet.tracks.boxes, strict=True):
        paths[int(track)].append(((x1 + x2) / 2, y2))

# %% [markdown]
# `annotate` draws what a packet holds. OpenCV writes BGR, so the picture is converted first.

# %%
drawn = streamvis.annotate(last.pixels, last)
cv2.imwrite(str(out / "last-frame.png"), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))

# %%
figure, axes = pyplot.subplots(figsize=(8, 6))
axes.imshow(last.pixels)
for track, points in sorted(paths.items()):
    axes.plot(*zip(*points, strict=True), label=f"track {track}")
axes.legend()
axes.set_axis_off()
figure.savefig(out / "paths.png", dpi=100)
pyplot.close(figure)

# %%
for track, points in sorted(paths.items()):
    print(f"track {track}: {len(points)} frames")
print(f"wrote {out / 'last-frame.png'} and {out / 'paths.png'}")

# %% [markdown]
# # Subscribe to a run, and count people
#
#     python docs/tutorials/subscribe_and_count.py [VIDEO [OUT]]
#
# Without a video, a rendered street scene is used. The run writes its event log into OUT.

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

import streamvis
from streamvis.events.envelope import Lost
from streamvis.stages.track.corrections import Corrections
from streamvis.stages.track.events import TrackBegin, TrackUpdate

SCENE = "street=synthetic:walkers?people=3&seconds=4&fps=10&size=320x240&seed=5"
video = sys.argv[1] if len(sys.argv) > 1 else SCENE
out = Path(sys.argv[2] if len(sys.argv) > 2 else "tutorial")

# %% [markdown]
# The run is a process of its own, as it would be on another day: it publishes its events on a ZeroMQ
# address. Any number of subscribers may come and go; none of them slows the run down.

# %%
with tempfile.TemporaryDirectory() as folder:
    address = f"ipc://{folder}/feed"
    command = ["run", "people", "--source", video, "--out", str(out)]
    publisher = subprocess.Popen(
        [sys.executable, "-m", "streamvis", *command, "--set", f"publish.bind={address}"]
    )

    # %% [markdown]
    # A subscription waits until there is a publisher. `until_ended` ends the loop with the run. Events
    # are kept with the corrections that follow them: a tracker may find later that two ids were one
    # person (`track.merge`), or that one id was two (`track.split`).

    # %%
    corrections = Corrections()
    observed = []
    lost = 0
    for event in streamvis.subscribe(address, family="track", until_ended=True):
        corrections.take(event)
        if isinstance(event.what, TrackBegin | TrackUpdate):
            observed.append(event)
        elif isinstance(event.what, Lost):
            lost += event.what.last - event.what.first + 1
    code = publisher.wait()

# %% [markdown]
# Only now each event is counted for the person it was about.

# %%
frames: dict[str, int] = {}
for event in observed:
    person = corrections.track_id(event)
    frames[person] = frames.get(person, 0) + 1
for person, count in sorted(frames.items()):
    print(f"{person}: {count} frames")
print(f"{len(frames)} people, {lost} events lost")
sys.exit(code)

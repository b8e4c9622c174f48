"""OpenVINO in a process that signals are sent to."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

TWICE = """
import gc, os, signal
import torch
from streamvis.models.inference.openvino import CompiledParts

class Part(torch.nn.Module):
    def forward(self, x):
        return (x + 1,)

def compiled():
    return CompiledParts(Part(), [torch.zeros(1, 3, 8, 8)], torch.float32)

first, second = compiled(), compiled()
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.skipif(find_spec("openvino") is None, reason="there is no OpenVINO here")
def test_a_signal_after_networks_are_gone_is_handled():
    """In a process of its own: it crashed where cores were destroyed in their order."""
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr

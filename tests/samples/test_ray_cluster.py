"""The sample cluster file, read by Ray's own parser."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[2] / "samples/deploy/ray-cluster.yaml"
READ = """
import sys, yaml
from ray.autoscaler._private.util import prepare_config, validate_config
given = prepare_config(yaml.safe_load(open(sys.argv[1])))
validate_config(given)
print(given["max_workers"], given["provider"]["worker_ips"])
"""


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed: pip install ray",
)
def test_ray_reads_the_sample():
    done = subprocess.run(
        [sys.executable, "-c", READ, str(SAMPLE)], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("2 ['10.0.0.2', '10.0.0.3']\n")

"""The profile of a pipeline as tables."""

from collections.abc import Iterator

from streamvis.benchmarks.pipeline_profile import ProfileReport
from streamvis.runners.tables import Table


def tables(profile: ProfileReport) -> Iterator[Table | str]:
    """Yield the rate and the whole cost, then those of processes and stages."""
    yield (
        f"{profile.frames} frames in {profile.seconds:.1f} s: {profile.fps:.1f} frames/s, "
        f"{profile.core_ms:.1f} core-ms a frame, {profile.cores:.2f} cores busy"
    )
    yield Table(
        "Processes, CPU ms a frame",
        ("process", "user", "system", "in stages", "rest", "no core ms", "switches", "working"),
        [
            (
                *(name, _ms(one.user_ms), _ms(one.system_ms), _ms(one.in_stages_ms)),
                *(_ms(one.rest_ms), _ms(one.core_wait_ms), one.switches),
                "-" if one.working is None else f"{one.working:.0%}",
            )
            for name, one in profile.processes.items()
        ],
    )
    yield Table(
        "Stages, CPU ms a frame",
        ("stage", "process", "user", "system", "state", "wall ms", "part kB", "state kB"),
        [
            (
                *(name, one.process, _ms(one.user_ms), _ms(one.system_ms), _ms(one.state_ms)),
                *(_ms(one.wall_ms), _kb(one.part_bytes), _kb(one.state_bytes)),
            )
            for name, one in profile.stages.items()
        ],
    )
    copied = profile.copied
    yield (
        f"copied a frame: picture {_kb(copied.pictures)} kB into shared memory; parts "
        f"{_kb(copied.parts_to_hub)} kB to the hub and {_kb(copied.parts_from_hub)} kB from it; "
        f"states {_kb(copied.states_to_hub)} kB to the hub"
    )


def _ms(value: float) -> str:
    return f"{value:.2f}"


def _kb(count: int) -> str:
    return f"{count / 1e3:.1f}"

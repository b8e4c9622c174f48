"""The entities of a source as Home Assistant discovers them over MQTT, a device for each source."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from streamvis import __version__
from streamvis.bridges.source_state import SourceNow

STATUSES = ["online", "stalled", "offline", "ended"]
IS_ONLINE = "{{ 'online' if value == 'online' else 'offline' }}"
IS_OCCUPIED = "{{ 'ON' if value | int(0) > 0 else 'OFF' }}"
EVENT = "{{ dict(value_json, event_type=value_json.type) | to_json }}"

Component = dict[str, Any]


def discovery(
    device: str,
    source: str,
    now: SourceNow,
    *,
    topic_of: Callable[[str], str],
    bridge_status: str,
    event_types: Sequence[str],
    snapshots: bool = False,
) -> dict[str, Any]:
    """Return the payload of `homeassistant/device/DEVICE/config`.

    `topic_of` returns the topic of a name such as `people`. What there was before, and is no
    longer, is a component of its platform alone, which removes it.
    """
    by_bridge = {"topic": bridge_status}
    status = topic_of("status")
    components = {
        "occupancy": {
            "platform": "binary_sensor",
            "unique_id": f"{device}_occupancy",
            "name": "Occupancy",
            "device_class": "occupancy",
            "state_topic": topic_of("people"),
            "value_template": IS_OCCUPIED,
        },
        "people": {
            "platform": "sensor",
            "unique_id": f"{device}_people",
            "name": "People",
            "state_class": "measurement",
            "unit_of_measurement": "people",
            "state_topic": topic_of("people"),
        },
        "status": {
            "platform": "sensor",
            "unique_id": f"{device}_status",
            "name": "Status",
            "device_class": "enum",
            "options": STATUSES,
            "entity_category": "diagnostic",
            "state_topic": status,
            "availability": [by_bridge],  # it says why the others are not available
        },
        "event": {
            "platform": "event",
            "unique_id": f"{device}_event",
            "name": "Event",
            "event_types": list(event_types),
            "state_topic": topic_of("event"),
            "value_template": EVENT,
        },
    }
    if snapshots:
        components["snapshot"] = {
            "platform": "camera",
            "unique_id": f"{device}_snapshot",
            "name": "Snapshot",
            "topic": topic_of("snapshot"),
        }
    elif now.pictured:
        components["snapshot"] = {"platform": "camera"}
    return {
        "device": {
            "identifiers": [device],
            "name": source,
            "manufacturer": "streamvis",
            "sw_version": __version__,
        },
        "origin": {"name": "streamvis", "sw_version": __version__},
        "availability": [by_bridge, {"topic": status, "value_template": IS_ONLINE}],
        "availability_mode": "all",
        "qos": 1,
        "components": components | _of_shapes(device, now, topic_of),
    }


def _of_shapes(device: str, now: SourceNow, topic_of: Callable[[str], str]) -> dict[str, Component]:
    """Return the components of zones and lines."""
    components: dict[str, Component] = {}
    shapes = (
        ("zone", now.zones, now.past_zones, _ZONE),
        ("line", now.lines, now.past_lines, _LINE),
    )
    for what, present, past, quantities in shapes:
        for name, quantity, of_quantity in _each(sorted(past), quantities):
            components[f"{what}_{name}_{quantity}"] = {"platform": of_quantity["platform"]}
        for name, quantity, of_quantity in _each(sorted(present), quantities):
            key = f"{what}_{name}_{quantity}"
            components[key] = of_quantity | {
                "unique_id": f"{device}/{key}",  # no name of a source, zone or line has a slash
                "name": f"{what.capitalize()} {name} {of_quantity['name']}",
                "state_topic": topic_of(f"{what}/{name}/{quantity}"),
            }
    return components


def _each(
    names: Sequence[str], quantities: dict[str, Component]
) -> Iterator[tuple[str, str, Component]]:
    for name in names:
        for quantity, component in quantities.items():
            yield name, quantity, component


_COUNT = {"platform": "sensor", "unit_of_measurement": "people"}
_ZONE: dict[str, Component] = {
    "people": {**_COUNT, "name": "people", "state_class": "measurement"},
    "occupied": {"platform": "binary_sensor", "name": "occupancy", "device_class": "occupancy"},
    "longest_s": {
        "platform": "sensor",
        "name": "longest stay",
        "device_class": "duration",
        "state_class": "measurement",
        "unit_of_measurement": "s",
    },
}
_LINE: dict[str, Component] = {
    "in": {**_COUNT, "name": "in", "state_class": "total_increasing"},
    "out": {**_COUNT, "name": "out", "state_class": "total_increasing"},
}

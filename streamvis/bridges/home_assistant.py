"""The entities of a source as Home Assistant discovers them over MQTT, a device for each source."""

from collections.abc import Sequence
from typing import Any

from streamvis import __version__

STATUSES = ["online", "stalled", "offline", "ended"]
IS_ONLINE = "{{ 'online' if value == 'online' else 'offline' }}"
IS_OCCUPIED = "{{ 'ON' if value | int(0) > 0 else 'OFF' }}"
EVENT = "{{ dict(value_json, event_type=value_json.type) | to_json }}"


def discovery(
    device: str,
    source: str,
    *,
    bridge_status: str,
    status: str,
    people: str,
    event: str,
    event_types: Sequence[str],
    snapshot: str | None = None,
    had_snapshots: bool = False,
) -> dict[str, Any]:
    """Return the payload of `homeassistant/device/DEVICE/config`; the others are topics.

    Without `snapshot` there is no camera, and one that there was before is removed.
    """
    by_bridge = {"topic": bridge_status}
    payload: dict[str, Any] = {
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
        "components": {
            "occupancy": {
                "platform": "binary_sensor",
                "unique_id": f"{device}_occupancy",
                "name": "Occupancy",
                "device_class": "occupancy",
                "state_topic": people,
                "value_template": IS_OCCUPIED,
            },
            "people": {
                "platform": "sensor",
                "unique_id": f"{device}_people",
                "name": "People",
                "state_class": "measurement",
                "unit_of_measurement": "people",
                "state_topic": people,
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
                "state_topic": event,
                "value_template": EVENT,
            },
        },
    }
    if snapshot is not None:
        payload["components"]["snapshot"] = {
            "platform": "camera",
            "unique_id": f"{device}_snapshot",
            "name": "Snapshot",
            "topic": snapshot,
        }
    elif had_snapshots:
        payload["components"]["snapshot"] = {"platform": "camera"}  # alone: it is removed
    return payload

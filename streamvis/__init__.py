"""streamvis watches video: it finds, follows and reports the people in it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamvis.events.client import subscribe as subscribe

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`streamvis.subscribe`, looked up when it is asked for: importing streamvis stays cheap."""
    if name == "subscribe":
        from streamvis.events.client import subscribe

        return subscribe
    raise AttributeError(f"module 'streamvis' has no attribute {name!r}")

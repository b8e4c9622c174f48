"""Print events of a run from its web server over WebSocket, without streamvis, until Ctrl-C.

pip install websockets
streamvis web out                            # in another terminal
python samples/subscribe_websocket.py ws://127.0.0.1:8080/ws/events
python samples/subscribe_websocket.py 'ws://127.0.0.1:8080/ws/events?types=zone,line' TOKEN
"""

import json
import sys
import time
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


def watch(url: str, token: str = "") -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    cursor = ""
    while True:
        joint = "&" if "?" in url else "?"
        place = f"{url}{joint}cursor={cursor}" if cursor else url
        try:
            with connect(place, additional_headers=headers) as socket:
                for text in socket:
                    message = json.loads(text)
                    show(message)
                    cursor = message.get("cursor") or cursor
        except (ConnectionClosed, ConnectionRefusedError):  # go on where it ended
            time.sleep(1)


def show(message: dict[str, Any]) -> None:
    match message["kind"]:
        case "begin":
            say(f"begin ({message['why']})")
        case "snapshot":  # in place of all that was known of this source
            for event in message["events"]:
                say(f"{event['source']} {event['type']} (going on)")
        case "events":
            for event in message["events"]:
                say(f"{event['source']} {event['type']} {event['time']['media_us'] / 1e6:.2f} s")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        watch(*sys.argv[1:] or ["ws://127.0.0.1:8080/ws/events"])
    except KeyboardInterrupt:
        sys.exit(130)

"""Print the feed with plain ZeroMQ, without streamvis.

python samples/subscribe_plain.py tcp://127.0.0.1:5560 sv1/cam1/track/
"""

import json
import sys

import zmq

socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
socket.connect(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5560")
socket.subscribe(sys.argv[2] if len(sys.argv) > 2 else "sv1/")
while True:
    topic, tseq, payload, *_ = socket.recv_multipart()
    event = json.loads(payload)
    print(topic.decode(), int.from_bytes(tseq), event["type"], flush=True)  # noqa: T201

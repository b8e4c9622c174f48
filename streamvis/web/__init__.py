"""The web server of a run: its HTTP API, and its events over WebSocket."""

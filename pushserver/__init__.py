"""pushserver: a WebSocket push server on Tornado."""

__version__ = "0.1.0"

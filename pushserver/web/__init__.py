"""HTTP, WebSocket and authentication."""

"""WebSocket frames without I/O (RFC 6455 section 5): building the server's, parsing the client's."""

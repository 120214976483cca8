"""Words only: no I/O, no event loop."""

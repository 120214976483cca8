"""The gin-style chain that every handshake runs through before the upgrade."""

"""The gin-style chain that every handshake runs through before the upgrade.

    recovery -> client ip -> admission -> origin -> authenticate -> categories

Each link is a handler over a `Context` and may abort. What they note stands in `ctx.keys` under the
names below.
"""

from __future__ import annotations

__all__ = [
    "CATEGORIES",
    "CLIENT_IP",
    "CLOSE_CODE",
    "CODE",
    "CREDENTIALS",
    "IDENTITY",
    "LOG_AT",
    "REASON",
    "USER",
]

CLIENT_IP = "client_ip"
"""The client's address, text."""
CREDENTIALS = "credentials"
"""What the handshake brought (`web.credentials.Credentials`)."""
IDENTITY = "identity"
"""Who the token is for (`web.tokens.Identity`)."""
USER = "user"
"""The username, text."""
CATEGORIES = "categories"
"""The user's categories (`core.categories.Categories`)."""
LOG_AT = "log_at"
"""Where the user stands in the log."""
CODE = "code"
"""With a refusal of ours: its short code, by which it is counted."""
REASON = "reason"
"""With a refusal: why, as the client is told and the log says; it quotes nothing secret."""
CLOSE_CODE = "close_code"
"""With a refusal: upgrade all the same and close with this code, for a browser cannot read a status."""

"""Origin: which web pages may connect. In our own chain, for Tornado skips its check where it trusts."""

from __future__ import annotations

from pushserver.core.context import Context
from pushserver.web.chain import CREDENTIALS
from pushserver.web.chain.refuse import refuse
from pushserver.web.credentials import BadHandshakeError, find_credentials
from pushserver.web.origins import OriginPolicy, origin_header

__all__ = ["Origin"]


class Origin:
    """Finds the credentials, whose carrier matters here, and judges `Origin` and `Host` with them."""

    def __init__(self, policy: OriginPolicy, *, query_token: bool) -> None:
        self._policy = policy
        self._query_token = query_token

    def handle(self, ctx: Context) -> None:
        """The link of the chain: 400 for a handshake that contradicts itself, 421 and 403."""
        request = ctx.request
        try:
            credentials = find_credentials(
                request, accept_cookie=self._policy.accepts_cookie, query_token=self._query_token
            )
        except BadHandshakeError as error:
            refuse(ctx, 400, "bad_handshake", error.reason)
            return
        ctx.set(CREDENTIALS, credentials)
        if not self._policy.host_allowed(request.host):
            refuse(ctx, 421, "wrong_host", "this server does not answer for that host")
        elif not self._policy.allows(origin_header(request), credentials.source):
            refuse(ctx, 403, "origin", "origin is not allowed")

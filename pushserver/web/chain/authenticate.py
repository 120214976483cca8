"""Authenticate: nobody passes whose token was not verified."""

from __future__ import annotations

from pushserver.core.close_codes import CloseCode
from pushserver.core.context import Context
from pushserver.core.errors import FetchError, NotAuthenticatedError
from pushserver.web.chain import CLOSE_CODE, CREDENTIALS, IDENTITY, USER
from pushserver.web.chain.refuse import refuse
from pushserver.web.credentials import BadHandshakeError, Credentials, check_user_hint
from pushserver.web.tokens import Identity, TokenVerifier

__all__ = ["Authenticate", "refuse_token"]


def refuse_token(ctx: Context, reason: str) -> None:
    """401, or 4401 after the upgrade for who offers `pushserver.v1*`: a browser cannot read a status."""
    credentials: Credentials = ctx.must_get(CREDENTIALS)
    if credentials.offered_pushserver:
        ctx.set(CLOSE_CODE, CloseCode.NOT_AUTHENTICATED)
    ctx.header("WWW-Authenticate", "Bearer")
    refuse(ctx, 401, "not_authenticated", reason)


class Authenticate:
    """Verifies the token that the handshake brought."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier

    async def handle(self, ctx: Context) -> None:
        """The link of the chain: 401 (see `refuse_token`), and 400 for a routing hint to somebody else.

        503 where nobody can tell whether the token is good: the client would throw away a good one.
        """
        try:
            identity = await self._verify(ctx.must_get(CREDENTIALS))
            check_user_hint(ctx.request, identity.username)
        except NotAuthenticatedError as error:
            refuse_token(ctx, error.reason)
        except FetchError:
            refuse(ctx, 503, "keys", "tokens cannot be verified now", retry_after_s=5)
        except BadHandshakeError as error:
            refuse(ctx, 400, "bad_handshake", error.reason)
        else:
            ctx.set(IDENTITY, identity)
            ctx.set(USER, identity.username)

    async def _verify(self, credentials: Credentials) -> Identity:
        if credentials.token is None:
            raise NotAuthenticatedError("no token")
        return await self._verifier.verify_anew(credentials.token)

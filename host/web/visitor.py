"""Who looks at the page: the user of a sign-in, with the roles that this user has at this moment."""

from __future__ import annotations

import hashlib
import hmac

from host.access.standing import Standing
from shared_schema.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Visitor:
    """A signed-in browser. `csrf` goes with everything that changes something; another site cannot know it."""

    sign_in_id: str
    standing: Standing
    csrf: str

    @property
    def user(self) -> str:
        """`<channel>:<handle>`."""
        return self.standing.user

    @property
    def is_owner(self) -> bool:
        """Whether they may see everything; others see their own chats alone."""
        return self.standing.is_owner

    def knows(self, csrf: str | None) -> bool:
        """Whether a request brought the right token."""
        return csrf is not None and hmac.compare_digest(csrf.encode("utf-8", "replace"), self.csrf.encode())


def csrf_of(token: str) -> str:
    """The token against forged requests that belongs to a cookie's."""
    return hashlib.sha256(b"csrf\0" + token.encode("utf-8", "replace")).hexdigest()

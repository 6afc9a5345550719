"""Errors of the API: each a status, a code for programs and one line for people.

{"error": {"code": "too_many_photos", "message": "12 photos; at most 10 are taken", "photo": null}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """A request that is refused.

    Args:
        status: HTTP status, 4xx or 503.
        code: what is wrong, for programs.
        message: one line for people: what is wrong, and what to do.
        photo: name of the photo it is about, as the client gave it.
        retry_after: seconds after which it is worth trying again.
        close: the connection is not worth keeping.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        photo: str | None = None,
        retry_after: int | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(code)  # never the message: it may name a photo, and exceptions are logged
        self.status = status
        self.code = code
        self.message = message
        self.photo = photo
        self.headers: dict[str, str] = {}
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)
        if close:
            self.headers["Connection"] = "close"

    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        return document(self.code, self.message, self.photo)


def document(code: str, message: str, photo: str | None = None) -> dict[str, Any]:
    """The body of any answer that is an error."""
    return {"error": {"code": code, "message": message, "photo": photo}}


CODES: Mapping[int, str] = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}
"""Codes of the errors that the framework finds by itself."""

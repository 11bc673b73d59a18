"""An answer that grows, as the pieces that are added to what was told before. Pure.

What an agent shows of an answer that it is still writing may be changed, and a stream takes nothing back. So a piece
goes out only as long as it goes on from what is out; what does not is held until the message is whole.
"""

from __future__ import annotations

_BETWEEN = "\n\n"


class Growing:
    """The text of one answer, which may be several messages."""

    def __init__(self) -> None:
        self.text = ""
        """All that was told."""
        self._begun = ""
        """What was told of the message that is being written."""

    def draft(self, text: str) -> str:
        """What is new in a message that is being written; nothing where it does not go on from what was told."""
        if not text.startswith(self._begun):
            return ""
        return self._told(text[len(self._begun) :], text)

    def message(self, text: str) -> str:
        """What is new when a message is whole."""
        if text.startswith(self._begun):
            piece = self._told(text[len(self._begun) :], text)
        else:  # it became another one
            self._begun = ""
            piece = self._told(text, text)
        self._begun = ""
        return piece

    def _told(self, piece: str, begun: str) -> str:
        if not piece:
            return ""
        if not self._begun and self.text:
            piece = _BETWEEN + piece
        self._begun = begun
        self.text += piece
        return piece

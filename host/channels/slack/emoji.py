"""Reactions: Slack names them ("thumbsup"), everybody else writes the character. Pure.

The common ones; what is not here is given by its name, `:name:`, either way.
"""

from __future__ import annotations

import re

_NAMES = {
    "+1": "👍", "thumbsup": "👍", "-1": "👎", "thumbsdown": "👎", "heart": "❤️", "fire": "🔥",
    "tada": "🎉", "eyes": "👀", "white_check_mark": "✅", "heavy_check_mark": "✔️", "x": "❌",
    "warning": "⚠️", "rocket": "🚀", "clap": "👏", "pray": "🙏", "ok_hand": "👌", "wave": "👋",
    "raised_hands": "🙌", "muscle": "💪", "point_up": "☝️", "smile": "😄", "grinning": "😀",
    "joy": "😂", "laughing": "😆", "blush": "😊", "slightly_smiling_face": "🙂", "wink": "😉",
    "heart_eyes": "😍", "sunglasses": "😎", "thinking_face": "🤔", "confused": "😕", "cry": "😢",
    "sob": "😭", "rage": "😡", "scream": "😱", "sleeping": "😴", "tired_face": "😫",
    "exploding_head": "🤯", "partying_face": "🥳", "robot_face": "🤖", "100": "💯", "bulb": "💡",
    "hourglass": "⌛", "hourglass_flowing_sand": "⏳", "stopwatch": "⏱️", "question": "❓",
    "exclamation": "❗", "no_entry": "⛔", "no_entry_sign": "🚫", "octagonal_sign": "🛑",
    "construction": "🚧", "bug": "🐛", "memo": "📝", "pushpin": "📌", "mag": "🔍", "lock": "🔒",
    "key": "🔑", "bell": "🔔", "star": "⭐", "sparkles": "✨", "zap": "⚡", "coffee": "☕",
    "beers": "🍻", "pizza": "🍕", "cake": "🍰", "trophy": "🏆", "see_no_evil": "🙈", "shrug": "🤷",
    "facepalm": "🤦", "writing_hand": "✍️", "arrows_counterclockwise": "🔄", "broken_heart": "💔",
    "green_heart": "💚", "blue_heart": "💙", "purple_heart": "💜", "yellow_heart": "💛",
}  # fmt: skip
_BY_CHARACTER = {character.replace("\ufe0f", ""): name for name, character in reversed(_NAMES.items())}
_NAME = re.compile(r":?([a-z0-9_+'-]{1,100})(?:::skin-tone-[2-6])?:?")


def to_character(name: str) -> str:
    """The character of a reaction's name; `:name:` where it is not known."""
    plain = name.partition("::")[0]
    return _NAMES.get(plain, f":{plain}:")


def to_name(emoji: str) -> str | None:
    """Slack's name of a reaction that was given as a character or as `:name:`; None where there is none."""
    known = _BY_CHARACTER.get(emoji.replace("\ufe0f", ""))
    if known is not None:
        return known
    match = _NAME.fullmatch(emoji)
    return None if match is None else match[1]

"""JSON text checked where it lies: no value is built, and a large text is checked in small steps.

What a back end sends goes on to clients as it stands, so only its bounds and its strictness matter:
beyond RFC 8259, no name twice in an object, no number larger than a double, no lone surrogate, and at
most `MAX_DEPTH` levels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from itertools import count
from math import isinf
from typing import NoReturn, TypeVar

from pushserver.core.errors import InvalidFieldError

__all__ = ["MAX_DEPTH", "JsonWalk", "Steps", "at_once"]

MAX_DEPTH = 100
"""Levels of arrays and objects within one value."""
STEP = 4096
"""Tokens checked in one step, some milliseconds."""

_Result = TypeVar("_Result")
Steps = Generator[None, None, _Result]
"""Work that stops now and then, so that whoever runs it can let others run; then its result."""


def at_once(steps: Steps[_Result]) -> _Result:
    """Carry out `steps` without letting anybody else run; raises what they raise."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: _Result = done.value
            return result


_BLANKS = " \t\n\r"
_BLANK = re.compile(r"[ \t\n\r]*+")
# Possessive throughout: nothing here ever backtracks, so a check takes time in proportion to the text.
_PLAIN = r"[^\"\\\x00-\x1f]"
_ESCAPE = (
    r"\\(?:[\"\\/bfnrt]|u(?:[0-9a-ce-fA-CE-F][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}"
    r"|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))"
)
# Digits have a bound, for turning them into a number takes longer the more there are (int() stops at 4300).
_NUMBER = r"-?(?:0|[1-9][0-9]{0,4000}+)(?:\.[0-9]{1,4000}+)?(?:[eE][+-]?[0-9]{1,4000}+)?(?![0-9.eE+-])"
_SCALAR = re.compile(rf'"{_PLAIN}{{0,1000}}+"|({_NUMBER})|true|false|null')
_NAME = re.compile(rf'"({_PLAIN}{{0,1000}}+)"[ \t\n\r]*+:')
_PART = re.compile(rf"(?:{_PLAIN}{{1,256}}+|{_ESCAPE}){{0,2000}}+")
_LONGEST_FINITE = 300
"""A number written in fewer characters, without an exponent, is finite."""


class JsonWalk:
    """Goes through one JSON text, piece by piece as the caller asks.

    Raises `InvalidFieldError` for `field`, which the caller sets to the name of what it is about to read.
    """

    __slots__ = ("_at", "_text", "field")

    def __init__(self, text: str) -> None:
        self.field = ""
        # A character that is legal nowhere in JSON: what is read never runs beyond the end.
        self._text = text + "\0"
        self._at = 0

    def begins(self, char: str) -> bool:
        """Whether the value that is due begins so."""
        self._at = self._blank(self._at)
        return self._text[self._at] == char

    def enter(self, opening: str, otherwise: str) -> None:
        """Go into the object or array that is due; `otherwise` says what is wrong if it is none."""
        if not self.begins(opening):
            self.refuse(otherwise)
        self._at += 1

    def next_name(self, seen: set[str]) -> Steps[str | None]:
        """The name of the object's next member, whose value is due then; None after the last.

        `seen` holds those before, and it is put there.
        """
        if not self._goes_on("}", first=not seen):
            return None
        return (yield from self._name(seen))

    def next_item(self, *, first: bool) -> bool:
        """Whether the array has another item, which is due then."""
        return self._goes_on("]", first=first)

    def value(self) -> Steps[str]:
        """The text of the value that is due, as it stands, without the white space around it.

        One loop over its tokens, for a call for each would double what a check costs.
        """
        text = self._text
        start = self._at = self._blank(self._at)
        nest: list[set[str] | None] = []  # what is open: an object's names so far, None for an array
        for turn in count(1):
            if not turn % STEP:
                yield
            char = text[self._at]
            if char == "{" or char == "[":  # noqa: PLR1714 - the quicker form
                if (yield from self._open(char, nest)):
                    continue
            elif (match := _SCALAR.match(text, self._at)) is None:
                yield from self._odd_scalar()
            else:
                if match[1] is not None:
                    self._check_number(match[1])
                self._at = match.end()
            while nest:
                names = nest[-1]
                if not self._goes_on("]" if names is None else "}", first=False):
                    nest.pop()
                    continue
                if names is not None:
                    yield from self._name(names)
                self._at = self._blank(self._at)
                break
            else:
                return text[start : self._at]
        raise AssertionError  # the loop has no end

    def end(self) -> None:
        """Make sure that nothing follows."""
        self._at = self._blank(self._at)
        if self._at != len(self._text) - 1:
            self._syntax()

    def refuse(self, reason: str) -> NoReturn:
        """Raise `InvalidFieldError` for what is being read."""
        raise InvalidFieldError(self.field, reason)

    # -- the pieces

    def _open(self, char: str, nest: list[set[str] | None]) -> Steps[bool]:
        """Go into an object or array; False if it is empty, and over already."""
        if len(nest) == MAX_DEPTH:
            self.refuse(f"is nested more than {MAX_DEPTH} levels deep")
        self._at = self._blank(self._at + 1)
        if char == "[":
            if self._text[self._at] == "]":
                self._at += 1
                return False
            nest.append(None)
            return True
        if self._text[self._at] == "}":
            self._at += 1
            return False
        names: set[str] = set()
        nest.append(names)
        yield from self._name(names)
        self._at = self._blank(self._at)
        return True

    def _goes_on(self, closing: str, *, first: bool) -> bool:
        """Past the comma or the end of what is open; whether a comma, or a first member, was there."""
        self._at = self._blank(self._at)
        char = self._text[self._at]
        if char == closing:
            self._at += 1
            return False
        if not first:
            if char != ",":
                self._syntax()
            self._at = self._blank(self._at + 1)
            if self._text[self._at] == closing:
                self._syntax()
        return True

    def _name(self, seen: set[str]) -> Steps[str]:
        """Past a name and its colon."""
        match = _NAME.match(self._text, self._at)
        if match is not None:
            name = match[1]
            self._at = match.end()
        else:
            if not self.begins('"'):
                self._syntax()
            name = yield from self._long_string()
            if not self.begins(":"):
                self._syntax()
            self._at += 1
        if name in seen:
            self.refuse(
                f"has the name {name[:64]!r} twice" if self.field else f"{name[:64]!r} is given twice"
            )
        seen.add(name)
        return name

    def string(self) -> Steps[str | None]:
        """The text that is due, its escapes resolved; None, and nothing is read, if it is no text."""
        return (yield from self._long_string()) if self.begins('"') else None

    def _long_string(self) -> Steps[str]:
        start = self._at
        yield from self._odd_scalar()
        resolved: str = json.loads(self._text[start : self._at])
        return resolved

    def _odd_scalar(self) -> Steps[None]:
        """Past a string that is long or has escapes; whatever else comes here is wrong."""
        text, at = self._text, self._at + 1
        if text[self._at] != '"':
            self._syntax()
        while True:
            match = _PART.match(text, at)
            end = at if match is None else match.end()
            if text[end] == '"':
                self._at = end + 1
                return
            if end == at:
                self._at = end
                self._bad_string(text[end : end + 2])
            at = end
            yield

    def _bad_string(self, found: str) -> NoReturn:
        if self._at == len(self._text) - 1:
            self._syntax()
        if found == "\\u":
            self.refuse(f"has a lone surrogate or a broken escape at character {self._at}")
        self.refuse(f"has a control character or a broken escape in a text at character {self._at}")

    def _check_number(self, digits: str) -> None:
        if len(digits) < _LONGEST_FINITE and "e" not in digits and "E" not in digits:
            return
        if isinf(float(digits)):
            self.refuse("has a number that is too large")

    def _blank(self, at: int) -> int:
        if self._text[at] not in _BLANKS:
            return at
        match = _BLANK.match(self._text, at)
        return at if match is None else match.end()

    def _syntax(self) -> NoReturn:
        text, at = self._text, self._at
        if at == len(text) - 1:
            self.refuse("is cut off, or no JSON")
        for name in ("NaN", "Infinity", "-Infinity"):
            if text.startswith(name, at):
                self.refuse(f"holds {name}, which is no JSON")
        if text[at] in "-0123456789":
            self.refuse(f"has a malformed or too long number at character {at}")
        self.refuse(f"is no JSON from character {at} on")

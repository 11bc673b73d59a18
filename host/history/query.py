"""What a person types, as expressions that FTS5 can take. Pure, and never raises: what is no query is taken literally.

    words side by side      all of them, anywhere in a message
    "a phrase"              these words, in this order
    A OR B, A AND B, A NOT B, ( … )       in capitals; NOT binds closest, then AND, then OR
    begin*                  words with that beginning

Dots, underscores, colons, hyphens and the like stand for themselves: `host/routing.py` is the phrase of its words.
Operators without something on both sides, unbalanced parentheses and quotes make the whole query literal.
"""

from __future__ import annotations

import re
import unicodedata

from host.history.cjk import asked, has_runs
from shared_schema.dataclass import dataclass
from shared_schema.text import folded

MAX_QUERY = 1_000
"""Characters of a query; what comes behind them is not looked for."""
MAX_TERMS = 32
_MAX_DEPTH = 20
_MAX_PIECES = 24
_OPERATORS = frozenset({"AND", "OR", "NOT"})
# A phrase (with a star behind it), or anything up to the next space.
_PIECE = re.compile(r'"(?P<phrase>[^"]*)"(?P<star>\*?)(?=[\s)]|$)|(?P<plain>\S+)')
_LETTERS = frozenset({"L", "N"})


@dataclass(frozen=True, slots=True)
class Term:
    """Words in a row; with `prefix` the last of them is only a beginning."""

    text: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class And:
    """All of the parts."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of the parts."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The first, and not the second."""

    wanted: Node
    unwanted: Node


Node = Term | And | Or | Not
Token = Term | str
"""A term, or one of `AND OR NOT ( )`."""


class _NoQuery(Exception):
    """It follows no rule."""


def parse(query: str) -> Node | None:
    """What is meant; None when there is nothing to look for. At most `MAX_TERMS` terms count."""
    clean = "".join(character if character.isprintable() else " " for character in query[:MAX_QUERY])
    try:
        tokens = _tokens(clean)
        reader = _QueryReader(tokens)
        return reader.whole() if tokens else None
    except _NoQuery:
        return _literal(clean)


def terms(node: Node, *, wanted: bool = True) -> list[Term]:
    """The terms that are looked for, in order."""
    match node:
        case Term():
            return [node] if wanted else []
        case And() | Or():
            return [term for part in node.parts for term in terms(part, wanted=wanted)]
        case Not():
            return terms(node.wanted, wanted=wanted)


def in_words(node: Node) -> str | None:
    """The expression for the table of words; None when it has no word that could be looked up."""
    match node:
        case Term():
            return _words_of(node)
        case And() | Or():
            found = [part for part in map(in_words, node.parts) if part is not None]
            if not found or (isinstance(node, Or) and len(found) < len(node.parts)):
                return None
            return f"({(' AND ' if isinstance(node, And) else ' OR ').join(found)})"
        case Not():
            wanted, unwanted = in_words(node.wanted), in_words(node.unwanted)
            return wanted if wanted is None or unwanted is None else f"({wanted} NOT {unwanted})"


def in_pieces(node: Node) -> str | None:
    """The expression for the table of pieces, which may find too much; None when a term is too short for it.

    What must not be there is left for the comparison with the text.
    """
    match node:
        case Term():
            pieces = list(dict.fromkeys(node.text[at : at + 3] for at in range(len(node.text) - 2)))
            chosen = pieces[:: -(-len(pieces) // _MAX_PIECES)] if pieces else []
            return f"({' AND '.join(map(_quoted, chosen))})" if chosen else None
        case And():
            found = [part for part in map(in_pieces, node.parts) if part is not None]
            return f"({' AND '.join(found)})" if found else None
        case Or():
            each = [part for part in map(in_pieces, node.parts) if part is not None]
            return f"({' OR '.join(each)})" if len(each) == len(node.parts) else None
        case Not():
            return in_pieces(node.wanted)


def fits(node: Node, text: str) -> bool:
    """Whether a text, casefolded, has the pieces that are looked for and none that must not be there."""
    match node:
        case Term():
            return folded(node.text, MAX_QUERY) in text
        case And():
            return all(fits(part, text) for part in node.parts)
        case Or():
            return any(fits(part, text) for part in node.parts)
        case Not():
            return fits(node.wanted, text) and not fits(node.unwanted, text)


def has_word(text: str) -> bool:
    """Whether there is a letter or digit in it: without one a tokenizer finds nothing."""
    return any(unicodedata.category(character)[0] in _LETTERS for character in text)


def _words_of(term: Term) -> str | None:
    if not has_word(term.text):
        return None
    text, is_beginning = asked(term.text) if has_runs(term.text) else (term.text, False)
    return f"{{spoken called}} : {_quoted(text)}{' *' if term.prefix or is_beginning else ''}"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _literal(query: str) -> Node | None:
    found = [Term(piece.strip('"')) for piece in query.split() if piece.strip('"')][:MAX_TERMS]
    return _joined(found) if found else None


def _joined(parts: list[Node] | list[Term]) -> Node:
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _tokens(query: str) -> list[Token]:
    found: list[Token] = []
    if query.count('"') % 2:
        raise _NoQuery
    at, end = 0, len(query)
    while at < end:
        if query[at].isspace() or query[at] in "()":
            found += [query[at]] if query[at] in "()" else []
            at += 1
            continue
        piece = _PIECE.match(query, at)
        assert piece is not None
        at = piece.end()
        if piece["plain"] is None:
            found += [Term(piece["phrase"], bool(piece["star"]))] if piece["phrase"].strip() else []
            continue
        plain = piece["plain"]
        while plain.endswith(")") and plain.count(")") > plain.count("("):  # it closes a group, not a call
            plain, at = plain[:-1], at - 1
        found.append(plain if plain in _OPERATORS else _plain_term(plain))
    if sum(isinstance(token, Term) for token in found) > MAX_TERMS:
        raise _NoQuery
    return found


def _plain_term(plain: str) -> Term:
    beginning = plain.rstrip("*")
    return Term(beginning, True) if beginning and beginning != plain else Term(plain)


class _QueryReader:
    """Reads tokens from left to right: OR of ANDs of NOTs of terms and groups."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._either()
        if self._at < len(self._tokens):
            raise _NoQuery
        return node

    def _next(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _took(self, operator: str) -> bool:
        taken = self._next() == operator
        self._at += taken
        return taken

    def _either(self) -> Node:
        parts = [self._both()]
        while self._took("OR"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _both(self) -> Node:
        parts = [self._without()]
        while True:
            if self._took("AND"):
                if self._took("NOT"):  # as in `a AND NOT b`
                    parts = [Not(_joined(parts), self._single())]
                else:
                    parts.append(self._without())
            elif isinstance(self._next(), Term) or self._next() == "(":
                parts.append(self._without())
            else:
                return _joined(parts)

    def _without(self) -> Node:
        node = self._single()
        while self._took("NOT"):
            node = Not(node, self._single())
        return node

    def _single(self) -> Node:
        token = self._next()
        self._at += 1
        if isinstance(token, Term):
            return token
        if token != "(" or self._depth == _MAX_DEPTH:
            raise _NoQuery
        self._depth += 1
        node = self._either()
        self._depth -= 1
        if not self._took(")"):
            raise _NoQuery
        return node

r"""Text from data, made fit to be shown.

What is not printable becomes a backslash escape: ESC is shown as \x1b. So no name of a file or a
label moves a cursor, clears a screen, turns the direction of text, or looks like a line of its own.
"""


def printable(text: str) -> str:
    r"""The text as one line: a line's end in it is shown as \n."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def printable_lines(text: str) -> str:
    """The text in the lines that it has."""
    return "\n".join(map(printable, text.split("\n")))


def is_unicode(text: str) -> bool:
    """Whether the text can be written as UTF-8: a file's name may be any bytes, which is no text.

    Nor is what JSON escapes to half a character.
    """
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")

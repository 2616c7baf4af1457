"""Checks of whole numbers."""

from numbers import Integral


def check_integer(name: str, value: object, *, lowest: int, highest: int | None = None, cure: str = "") -> int:
    """Return an integer.

    Args:
        name: What error messages call it.
        value: An integer, of NumPy too; booleans are not taken.
        lowest: The least that it may be.
        highest: The most, if there is a limit.
        cure: What to pass instead, as the end of the message.

    Raises:
        TypeError: It is no integer.
        ValueError: It is out of range.
    """
    expected = f"expected an integer from {lowest} " + ("on" if highest is None else f"to {highest}")
    message = f"{name} is {value!r}, {expected}{cure}."
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(message)
    number = int(value)
    if number < lowest or (highest is not None and number > highest):
        raise ValueError(message)
    return number

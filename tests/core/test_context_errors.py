from __future__ import annotations

from pushserver.core.context_errors import ErrorEntry, ErrorType


def test_an_entry_is_private_and_bare_until_told_otherwise() -> None:
    error = OSError("gone")
    entry = ErrorEntry(error)
    assert (entry.err, entry.type, entry.meta) == (error, ErrorType.PRIVATE, None)
    assert str(entry) == "gone"


def test_type_and_meta_are_set_in_a_row_on_the_same_entry() -> None:
    entry = ErrorEntry(OSError())
    assert entry.set_type(ErrorType.PUBLIC).set_meta({"k": 1}) is entry
    assert (entry.type, entry.meta) == (2, {"k": 1})


def test_each_name_answers_to_gins_spelling() -> None:
    entry = ErrorEntry(OSError()).SetType(ErrorType.PUBLIC).SetMeta("m")
    assert (entry.Err, entry.Type, entry.Meta) == (entry.err, entry.type, entry.meta)
    assert (entry.Type, entry.Meta) == (ErrorType.PUBLIC, "m")

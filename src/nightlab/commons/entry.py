"""A record as it stands in its author's chain, in little memory."""

from __future__ import annotations

from functools import lru_cache

from nightlab.commons.record import Finding, Signed, encode_record

PARSED = 1000  # records


class Entry:
    """A record in its author's chain. With ``raw``, its bytes, these are kept instead of the parsed record, which takes
    about six times as much memory; the latest ``PARSED`` ones are cached.
    """

    __slots__ = ("_source", "author", "commit", "id", "seq")

    def __init__(self, signed: Signed, commit: str, raw: bytes = b"") -> None:
        self.id, self.author, self.commit, self.seq = signed.id, signed.record.author, commit, signed.record.seq
        self._source: Signed | bytes = raw or signed

    @property
    def signed(self) -> Signed:
        return _parsed(self._source) if isinstance(self._source, bytes) else self._source

    @property
    def size(self) -> int:
        """The bytes of the record and its patch."""
        record = self.signed.record
        raw = self._source if isinstance(self._source, bytes) else encode_record(self._source)
        return len(raw) + (record.patch.bytes if isinstance(record, Finding) else 0)


@lru_cache(PARSED)
def _parsed(raw: bytes) -> Signed:
    """A record that was checked when it was received."""
    return Signed.model_validate_json(raw)

"""Where a page of a list lies."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestPlace:
    """A page of a list that begins with the newest: older than an id, newer than one, or first."""

    before: int | None = None
    after: int | None = None

    @property
    def newest(self) -> bool:
        """Whether it is the first page."""
        return self.before is None and self.after is None


NEWEST = NewestPlace()

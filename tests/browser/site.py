"""The app under test, and the addresses of its pages."""

from dataclasses import dataclass
from pathlib import Path

from core.db.session import SessionScope
from tests.support.builders import MODEL_ID, SAE_ID


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where the app listens, and its data."""

    url: str
    data_dir: Path
    scope: SessionScope

    @property
    def list(self) -> str:
        """The list of the sample's features."""
        return f"{self.url}/{MODEL_ID}/{SAE_ID}"

    @property
    def feature(self) -> str:
        """A feature that fires."""
        return f"{self.list}/0"

    @property
    def dead(self) -> str:
        """A feature that never fires."""
        return f"{self.list}/3"

    @property
    def pages(self) -> dict[str, str]:
        """Every kind of page by a name."""
        return {
            "home": f"{self.url}/",
            "model": f"{self.url}/{MODEL_ID}",
            "list": self.list,
            "filtered": f"{self.list}?dmin=x",
            "feature": f"{self.feature}?band=all",
            "dead": self.dead,
            "raw": f"{self.feature}?view=raw",
            "jobs": f"{self.url}/jobs",
            "new": f"{self.url}/jobs/new",
            "own": f"{self.url}/jobs/new?preset=own",
            "api": f"{self.url}/api",
            "missing": f"{self.url}/jobs/999999",
        }

"""Opening a table or view by its name, for Arrow, pandas and DuckDB."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import pyarrow as pa
import pyarrow.dataset as ds
from pyiceberg.expressions import BooleanExpression

from vidpipe.config import Settings
from vidpipe.errors import UsageError
from vidpipe.lake.tables import Lake, as_utc
from vidpipe.lake.views import VIEWS
from vidpipe.schemas import TABLES


class PublishedTable:
    """A table or view as of a publication.

    Args:
        name: The table or view.
        settings: Where the lake is; the process's own by default.
        at: As of the last publication at this time (UTC where it names no zone); None: the last.

    Raises:
        UsageError: There is no such table or view.
    """

    def __init__(self, name: str, settings: Settings | None = None, *, at: datetime | None = None):
        if name not in TABLES and name not in VIEWS:
            there_are = ", ".join([*TABLES, *VIEWS])
            raise UsageError(f"There is no table {name!r}. There are: {there_are}.")
        self.name = name
        self._lake = Lake(settings)
        self._at = at

    def to_dataset(self, where: BooleanExpression | None = None) -> ds.Dataset:
        """Opens it as a pyarrow dataset. A table is read when it is scanned, a view at once.

        Args:
            where: Only files of a table that may hold such rows are opened; see `Lake.dataset`.

        Raises:
            UsageError: `where` is given for a view, or the history begins after `at`.
        """
        if self.name in VIEWS:
            # DuckDB takes a moment to import, and tables do without it.
            from vidpipe.lake.query import run_query

            if where is not None:
                raise UsageError(
                    f"where chooses files of a table. Received: the view {self.name}. Filter its"
                    " rows: to_arrow(filter=…)."
                )
            return ds.dataset(run_query(f"from {self.name}", self._lake.settings, at=self._at))
        snapshots = self._lake.published(as_utc(self._at))
        return self._lake.dataset(self.name, where=where, snapshots=snapshots)

    def to_arrow(
        self, columns: Iterable[str] | None = None, filter: ds.Expression | None = None
    ) -> pa.Table:
        """Reads rows into an Arrow table; of a table, columns and filter are read alone."""
        return self.to_dataset().to_table(
            columns=list(columns) if columns is not None else None, filter=filter
        )

    def to_pandas(self, columns: Iterable[str] | None = None, filter: ds.Expression | None = None):
        """Reads rows into a pandas DataFrame."""
        return self.to_arrow(columns, filter).to_pandas()


def open_table(
    name: str, settings: Settings | None = None, *, at: datetime | None = None
) -> PublishedTable:
    """Opens a table or view for reading.

    Args:
        name: The table or view.
        settings: Where the lake is; the process's own by default.
        at: As of the last publication at this time (UTC where it names no zone); None: the last.

    Raises:
        UsageError: There is no such table or view.

    Example:
        >>> from vidpipe.lake import open_table
        >>> open_table("best_labels").to_pandas(columns=["source_uri", "label", "labelled_by"])
    """
    return PublishedTable(name, settings, at=at)

"""Lists of findings in bounded memory, whatever is wrong with how many rows."""

from collections.abc import Iterable

from bridge_jax.data.table_chunk import Finding

MAX_LISTED = 100_000  # findings that are listed one by one
MAX_REASONS = 1000  # files and reasons beyond these
MAX_TEXT = 1000  # characters of a row
_OTHER = "other reasons"


class Findings(list[Finding]):
    """Rejects and notices: the first ones one by one, and the rest added up by file and reason.

    The numbers of rows always sum to those of all findings. A sum stands at the place of its first
    finding; its text says how many there are.
    """

    def __init__(self, findings: Iterable[Finding] = (), max_listed: int = MAX_LISTED) -> None:
        """Adds findings.

        Args:
          findings: The first ones.
          max_listed: Number of findings that are listed one by one.
        """
        super().__init__()
        self._max_listed = max_listed
        self._sums: dict[tuple[str, str, bool], tuple[int, int]] = {}  # place and number
        self.extend(findings)

    def append(self, finding: Finding) -> None:
        """Adds a finding."""
        if len(finding.text) > MAX_TEXT:
            finding = finding._replace(text=f"{finding.text[: MAX_TEXT - 1]}…")
        if len(self) < self._max_listed:
            super().append(finding)
            return
        key = finding.file, finding.reason, finding.num_rows > 0
        if key not in self._sums and len(self._sums) >= MAX_REASONS:
            finding = finding._replace(reason=_OTHER)
            key = finding.file if len(self._sums) < 2 * MAX_REASONS else "", _OTHER, key[2]
        if key not in self._sums:
            self._sums[key] = len(self), 1
            super().append(finding)
            return
        place, count = self._sums[key]
        self._sums[key] = place, count + 1
        first = self[place]
        text = f"this and {count:,} later rows that are not listed"
        self[place] = first._replace(text=text, num_rows=first.num_rows + finding.num_rows)

    def extend(self, findings: Iterable[Finding]) -> None:
        """Adds findings in their order."""
        for finding in findings:
            self.append(finding)

    def __iadd__(self, findings: Iterable[Finding]) -> "Findings":  # type: ignore[misc,override]
        self.extend(findings)
        return self


def num_rows(findings: Iterable[Finding]) -> int:
    """Returns the number of rows that findings cost."""
    return sum(f.num_rows for f in findings)

"""Lists of images: a name in each line."""

from pathlib import Path

from ..findings import Findings, shown


def read_list(path: Path, findings: Findings) -> list[str]:
    """The lines of a list, without empty ones; a finding if it cannot be read."""
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, ValueError) as error:
        findings.error(f'list of images cannot be read: {shown(error)}')
        return []
    return [line.strip() for line in lines if line.strip()]

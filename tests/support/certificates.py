"""Certificates by the script that the compose overlay uses."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "certificates.sh"


@dataclass(frozen=True)
class Certificates:
    """PEM files of one authority."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """COE_TLS_* of a process called `test`."""
        return {
            "COE_TLS_CA": str(self.folder / "ca.pem"),
            "COE_TLS_CERT": str(self.folder / "test.pem"),
            "COE_TLS_KEY": str(self.folder / "test.key"),
        }


def make(folder: Path) -> Certificates:
    subprocess.run([SCRIPT, folder, "test", "kafka"], check=True, capture_output=True, timeout=60)
    return Certificates(folder)

"""Certificates by the script that the compose overlay uses, and some that are wrong."""

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
        return self.environment_of("test")

    def environment_of(self, name: str) -> dict[str, str]:
        return {
            "COE_TLS_CA": str(self.folder / "ca.pem"),
            "COE_TLS_CERT": str(self.folder / f"{name}.pem"),
            "COE_TLS_KEY": str(self.folder / f"{name}.key"),
        }

    def sign(self, name: str, *, hosts: str = "DNS:localhost,IP:127.0.0.1", days: int = 1) -> None:
        """Makes NAME.pem and NAME.key for these subject alternative names; negative `days`: it has expired."""
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={hosts}\nbasicConstraints=CA:FALSE\n")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        self._openssl("req", *curve, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        authority = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        rest = ["-days", str(days), "-extfile", extensions.name, "-out", f"{name}.pem"]
        self._openssl("x509", "-req", "-in", f"{name}.csr", *authority, *rest)

    def lock(self, name: str) -> Path:
        """NAME.key under a passphrase."""
        locked = self.folder / f"{name}.locked.key"
        self._openssl("ec", "-in", f"{name}.key", "-aes256", "-passout", "pass:secret", "-out", locked.name)
        return locked

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=60)


def make(folder: Path) -> Certificates:
    subprocess.run([SCRIPT, folder, "test", "kafka"], check=True, capture_output=True, timeout=60)
    return Certificates(folder)

"""SASL authentication to the Kafka brokers by user and password, from COE_KAFKA_SASL_* settings.

COE_KAFKA_SECURITY determines whether it runs over TLS.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, SecretStr
from pydantic_settings import SettingsConfigDict

from coe.platform.errors import ArtifactError
from coe.platform.settings import Settings

Mechanism = Annotated[Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(str.upper)]


class SaslSettings(Settings):
    """Empty settings count as unset, so that a deployment can leave them empty."""

    model_config = SettingsConfigDict(env_prefix="COE_KAFKA_SASL_", env_ignore_empty=True)

    # How to authenticate to the brokers. Empty: not at all, or by certificate only.
    mechanism: Mechanism = ""
    # User name.
    username: str = ""
    # Password; never logged. Set either this or the file.
    password: SecretStr | None = None
    # File containing the password (a trailing newline is ignored). Read for every new client.
    password_file: Path | None = None

    def check(self) -> None:
        self.options()

    def options(self) -> dict[str, str]:
        """Keyword arguments for aiokafka's classes; empty without a mechanism.

        Raises ArtifactError, which names the setting.
        """
        if not self.mechanism:
            given = sorted(self.model_fields_set - {"mechanism"})
            if given:
                raise ArtifactError(f"COE_KAFKA_SASL_{given[0].upper()} is set but COE_KAFKA_SASL_MECHANISM is not")
            return {}
        if not self.username:
            raise ArtifactError(f"COE_KAFKA_SASL_MECHANISM={self.mechanism} needs COE_KAFKA_SASL_USERNAME")
        return {
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.username,
            "sasl_plain_password": self._password(),
        }

    def _password(self) -> str:
        if (self.password is None) == (self.password_file is None):
            raise ArtifactError(
                f"COE_KAFKA_SASL_MECHANISM={self.mechanism} needs one of COE_KAFKA_SASL_PASSWORD and _PASSWORD_FILE"
            )
        if self.password_file is not None:
            return _read(self.password_file)
        assert self.password is not None
        return self.password.get_secret_value()


def _read(path: Path) -> str:
    name = f"COE_KAFKA_SASL_PASSWORD_FILE: {path}"
    try:
        found = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ArtifactError(f"{name} can't be read: {error.strerror}", path=path) from None
    except UnicodeDecodeError:
        raise ArtifactError(f"{name} is not UTF-8 text", path=path) from None
    if not found:
        raise ArtifactError(f"{name} is empty", path=path)
    return found

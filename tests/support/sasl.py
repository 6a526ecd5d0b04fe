"""A broker that asks clients who they are, by each mechanism, with and without TLS."""

from pathlib import Path

from coe.local.kafka import KafkaServer
from coe.local.kafka.config import KafkaNode
from coe.local.ports import free_port
from support.certificates import Certificates

USER, PASSWORD = "coe", "open sesame"
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_LOGIN = "org.apache.kafka.common.security"


class SaslKafka(KafkaServer):
    """`plain` asks nobody, `sasl` by name and password, `sasl_tls` the same over TLS."""

    def __init__(self, directory: Path, made: Certificates) -> None:
        self.plain, self.sasl, self.sasl_tls = (f"127.0.0.1:{free_port()}" for _ in range(3))
        controller = free_port()
        listeners = f"PLAINTEXT://{self.plain},SASL_PLAINTEXT://{self.sasl},SASL_SSL://{self.sasl_tls}"
        extra = {
            "listener.security.protocol.map": ",".join(
                f"{name}:{name}" for name in ("PLAINTEXT", "SASL_PLAINTEXT", "SASL_SSL")
            )
            + ",CONTROLLER:PLAINTEXT",
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": listeners,
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": ",".join(_MECHANISMS),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(made.folder / "kafka.bundle.pem"),
        }
        for listener in ("sasl_plaintext", "sasl_ssl"):
            for mechanism in _MECHANISMS:
                login = f'{_LOGIN}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
                if mechanism != "PLAIN":
                    login = f"{_LOGIN}.scram.ScramLoginModule required;"
                extra[f"listener.name.{listener}.{mechanism.lower()}.sasl.jaas.config"] = login
        super().__init__(directory, KafkaNode(1, int(self.plain.rpartition(":")[2]), {1: controller}, extra=extra))

    def _format(self, tool: list[str], *more: str) -> None:
        """With the users of SCRAM: their secrets lie in the cluster's metadata."""
        users = [
            part
            for mechanism in _MECHANISMS[1:]
            for part in ("--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]")
        ]
        super()._format(tool, *users, *more)

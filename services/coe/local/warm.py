"""Makes beforehand what a service makes of its encoder at its first start: `python -m coe.local.warm router|mapper`.

An image that holds the result starts in seconds, every time; its root is read-only, so it could not keep it otherwise.
"""

import sys

from coe.encoder import open_encoder
from coe.mapper.parts import PART_ENCODER
from coe.platform.settings import CoreSettings
from coe.router.artifact import locate
from coe.router.classifier import open_classifier


def router() -> None:
    open_classifier(locate(CoreSettings().home))


def mapper() -> None:
    open_encoder(PART_ENCODER)


if __name__ == "__main__":
    {"router": router, "mapper": mapper}[sys.argv[1]]()

"""Makes beforehand what the router makes of its encoder at its first start: `python -m coe.local.warm`.

An image that holds the result starts in seconds, every time; its root is read-only, so it could not keep it otherwise.
"""

from coe.platform.settings import CoreSettings
from coe.router.artifact import locate
from coe.router.classifier import open_classifier

if __name__ == "__main__":
    open_classifier(locate(CoreSettings().home))

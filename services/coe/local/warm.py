"""Prepares the router's encoder ahead of its first start: `python -m coe.local.warm`.

A container image that includes the result always starts in seconds. Its root file system is read-only, so it could not
keep the result of its own first start.
"""

from coe.platform.settings import CoreSettings
from coe.router.artifact import locate
from coe.router.classifier import open_classifier

if __name__ == "__main__":
    open_classifier(locate(CoreSettings().home))

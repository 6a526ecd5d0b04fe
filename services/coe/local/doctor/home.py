"""Checks a stack's folder (is it ours to use?), its disk, and the ports that clients connect to."""

import os
import shutil
from pathlib import Path

from coe.local.doctor.check import Check, Level, judged
from coe.local.options import StackOptions
from coe.local.ports import is_free
from coe.local.stackfile import running_stack

_MIB = 2**20
_LEAST_DISK = 2048 * _MIB


def home_check(home: Path) -> Check:
    """Must pass before anything in the folder can be checked."""
    name, elsewhere = "COE_HOME", "set COE_HOME to another folder"
    home = home.absolute()
    for folder in (_existing(home), home / "run", home / "experts"):
        if os.path.lexists(folder) and not folder.is_dir():
            return Check(name, Level.PROBLEM, f"{folder} is not a folder", elsewhere)
        if os.access(folder, os.F_OK) and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            # Never suggest taking over a parent of the home.
            ours = f"chown -R {os.geteuid()} {folder}, or " if folder.is_relative_to(home) else ""
            return Check(name, Level.PROBLEM, f"{folder} is not writable", f"{ours}{elsewhere}")
    return Check(name, Level.GOOD, str(home))


def disk_check(home: Path) -> Check:
    free = shutil.disk_usage(_existing(home.absolute())).free
    fix = "free 2 GiB there, or set COE_HOME to a folder on another disk"
    return judged("disk", free >= _LEAST_DISK, f"{free // _MIB} MiB free for {home}", fix)


def port_checks(home: Path) -> list[Check]:
    options, stack = StackOptions(), running_stack(home)
    own = {address.rpartition(":")[2] for address in (stack.gateway, stack.gateway_http)} if stack else set()
    wanted = {"gateway port": options.gateway_port, "gateway HTTP port": options.gateway_http_port}
    fix = "in use: `coe up` picks and prints another port unless COE_STACK_GATEWAY_PORT or .._HTTP_PORT names this one"
    return [
        Check(name, Level.GOOD, f"{port}, used by the running stack")
        if str(port) in own
        else judged(name, is_free(port), f"{port}", fix, otherwise=Level.WARNING)
        for name, port in wanted.items()
        if port
    ]


def _existing(home: Path) -> Path:
    """The home, or else its closest existing parent."""
    return next(folder for folder in (home, *home.parents) if os.access(folder, os.F_OK))

"""Detects the pointer files that replace large files when a repository is cloned without Git LFS."""

POINTER = b"version https://git-lfs"
WHY = "it is a Git LFS pointer: run `git lfs pull` in the cloned folder to fetch the file itself"

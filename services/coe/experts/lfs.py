"""What stands in place of a large file where a repository was cloned without Git LFS."""

POINTER = b"version https://git-lfs"
WHY = "it is a pointer of Git LFS: `git lfs pull`, in the folder that was cloned, fetches the file itself"
